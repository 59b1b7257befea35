"""Checkpoints between Detectron2's steps: by their number, by the clock, and when the user ends the run."""

import time
from typing import Any

import torch
from detectron2.engine import hooks
from detectron2.utils import comm

from sapnet_pipe.stages.training.distributed import any_rank
from sapnet_pipe.stages.training.interruption import Interruption
from sapnet_pipe.stages.training.metric_log import close_in_time

_SMOOTHED = 20  # steps over which Detectron2's writers smooth
_TIMES = ("time", "data_time", "rank_data_time", "eta_seconds")  # so that equal trainings are equal bytes


class Checkpoints(hooks.PeriodicCheckpointer):
    """Detectron2's hook, which also saves by the clock and before an interruption ends the training.

    Args:
        checkpointer, period, max_to_keep: As Detectron2's.
        minutes: After which a checkpoint is due in any case; 0 leaves it to the steps.
        interruption: Whether this process was asked to end.
    """

    def __init__(
        self, checkpointer: Any, period: int, max_to_keep: int, *, minutes: float, interruption: Interruption
    ) -> None:
        super().__init__(checkpointer, period, max_to_keep=max_to_keep)
        self._steps, self._seconds, self._interruption = period, 60 * minutes, interruption
        self._saved = time.perf_counter()

    def after_step(self) -> None:
        """Save if that is due. Raises: KeyboardInterrupt, the checkpoint being there, if a process was asked to end."""
        device = torch.device(self.trainer.cfg.MODEL.DEVICE)
        stopping = any_rank(self._interruption.asked is not None, device)
        late = self._seconds and time.perf_counter() - self._saved >= self._seconds
        self.period = 1 if stopping or late else self._steps
        if (self.trainer.iter + 1) % self.period == 0:
            self._saved = time.perf_counter()
        if comm.is_main_process():
            super().after_step()
        if stopping:
            comm.synchronize()  # the checkpoint is there
            raise KeyboardInterrupt


class Records(hooks.PeriodicWriter):
    """Detectron2's hook, whose records an interruption does not change: a checkpoint has what the next one needs."""

    def __init__(self, writers: list[Any], period: int) -> None:
        super().__init__(writers, period)
        self._restored: dict[str, tuple[bool, list[tuple[float, int]]]] = {}

    def state_dict(self) -> dict[str, tuple[bool, list[tuple[float, int]]]]:
        """By name whether it is smoothed, and (value, iteration) of the steps that are not in all records yet."""
        storage = self.trainer.storage
        recorded = (self.trainer.iter + 1) // self._period * self._period
        state = {}
        for name, smoothed in sorted(storage.smoothing_hints().items()):
            values = storage.history(name).values()
            kept = values[-max(_SMOOTHED, self._period) :] if smoothed else [v for v in values if v[1] >= recorded]
            if kept and name not in _TIMES:
                state[name] = (smoothed, kept)
        return state

    def load_state_dict(self, state: dict[str, tuple[bool, list[tuple[float, int]]]]) -> None:
        """Take over the values of a checkpoint; `before_train` puts them where the writers find them."""
        self._restored = state

    def before_train(self) -> None:
        """Go on with the values of the steps that were done before."""
        for name, (smoothed, values) in self._restored.items():
            for value, iteration in values:
                self.trainer.storage.put_scalar(name, value, smoothing_hint=smoothed, cur_iter=iteration)

    def after_train(self) -> None:
        """Write what is left if the training is at its end, and close the files."""
        for writer in self._writers:
            if self.trainer.iter + 1 >= self.trainer.max_iter:
                writer.write()
            close_in_time(writer.close)
