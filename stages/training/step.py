"""One optimiser step of a training, and the means that its records show."""

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from sapnet_pipe.data.errors import UserError
from sapnet_pipe.stages.training.checkpoint import Checkpoint, save_checkpoint
from sapnet_pipe.stages.training.config import TrainConfig, lr_at
from sapnet_pipe.stages.training.distributed import all_reduce_mean, is_main_process
from sapnet_pipe.stages.training.metric_log import MetricLog

MAX_SKIPPED_IN_A_ROW = 5

Batch = Any
LossFn = Callable[[nn.Module, Batch], dict[str, Tensor]]


class TrainStep:
    """A running training: network, optimiser and where its state is written.

    Args:
        net, optim: As `Fabric.setup` returns them.
        seed: Every step sets torch's seed from (seed, iteration), so that a resumed run draws the same numbers.
        path: The checkpoint.

    Attributes:
        window: Of the steps since the last record. last: The last record's values. skipped: Steps so far.
    """

    def __init__(
        self,
        fabric: Fabric,
        net: Any,
        optim: Any,
        *,
        loss_fn: LossFn,
        config: TrainConfig,
        seed: int,
        log: MetricLog,
        path: Path,
    ) -> None:
        self.fabric, self.net, self.optim, self.loss_fn, self.config = fabric, net, optim, loss_fn, config
        self.seed, self.log, self.path = seed, log, path
        self.window, self.last = Window(), {"loss": 0.0}
        self.skipped, self._skipped_in_a_row = 0, 0

    def step(self, iteration: int, batch: Batch) -> dict[str, float]:
        """One optimiser step; its values as numbers, at the price of one host synchronisation."""
        torch.manual_seed(self.seed * 1_000_003 + iteration)
        for group in self.optim.param_groups:
            group["lr"] = lr_at(self.config, iteration)
        values = self.loss_fn(self.net, self.fabric.to_device(batch))
        total = sum_losses(values)
        self.optim.zero_grad(set_to_none=True)
        self.fabric.backward(total)
        norm = self._clip()
        names = [*values, "loss", "grad_norm"]
        numbers = all_reduce_mean(torch.stack([v.detach().float() for v in (*values.values(), total, norm)])).tolist()
        record = dict(zip(names, numbers, strict=True))
        self._update(iteration, record)
        self.window.add(record)
        return record

    def write_record(self, done: int) -> None:
        """Append the means since the last record to the log, after `done` steps."""
        self.last = self.window.take()
        line = {"iteration": done, "lr": lr_at(self.config, done - 1), **self.last, "skipped": self.skipped}
        self.log.write(line, done)

    def restore(self, progress: dict[str, Any]) -> None:
        """Go on with the counts of a checkpoint, so that the next record is that of an undisturbed training."""
        if progress:
            self.skipped, self._skipped_in_a_row = progress["skipped"], progress["skipped_in_a_row"]
            self.last = dict(progress["last"])
            self.window.restore(progress["window"])

    def save(self, iteration: int) -> None:
        """Write the checkpoint after `iteration` steps, if this is the process that writes."""
        if not is_main_process():
            return
        scaler = getattr(self.fabric._precision, "scaler", None)
        state = Checkpoint(
            model=self.net.module.state_dict(),
            optimizer=self.optim.state_dict(),
            scaler=scaler.state_dict() if scaler is not None else {},
            iteration=iteration,
            seed=self.seed,
            metrics_bytes=self.log.bytes_written(),
            progress={
                "skipped": self.skipped,
                "skipped_in_a_row": self._skipped_in_a_row,
                "last": {name: value for name, value in self.last.items() if name != "seconds"},
                "window": self.window.state(),
            },
        )
        save_checkpoint(self.path, state)

    def _clip(self) -> Tensor:
        limit = self.config.clip_norm or math.inf
        norm = self.fabric.clip_gradients(self.net, self.optim, max_norm=limit, error_if_nonfinite=False)
        return torch.as_tensor(norm)

    def _update(self, iteration: int, record: dict[str, float]) -> None:
        """Step, unless the loss or the gradient is not finite (in fp16 the scaler watches the gradient)."""
        half = self.config.precision == "16-mixed"
        bad = next((k for k, v in record.items() if not math.isfinite(v) and not (half and k == "grad_norm")), None)
        if bad is None:
            self.optim.step()
            self._skipped_in_a_row = 0
            return
        self.skipped, self._skipped_in_a_row = self.skipped + 1, self._skipped_in_a_row + 1
        if self._skipped_in_a_row >= MAX_SKIPPED_IN_A_ROW:
            problem = f"not finite for {MAX_SKIPPED_IN_A_ROW} steps in a row"
            hint = "Lower train.lr, lengthen train.warmup_iterations, or set train.precision to 32-true"
            raise UserError(self.log.path, f"iteration {iteration}: {bad}", record[bad], problem, hint)


class Window:
    """Means of the values since the last record; steps with a non-finite value do not enter."""

    def __init__(self) -> None:
        self._clear()

    def add(self, record: dict[str, float]) -> None:
        """Count one step."""
        self._steps += 1
        if all(math.isfinite(value) for value in record.values()):
            self._finite += 1
            for name, value in record.items():
                self._sums[name] = self._sums.get(name, 0.0) + value

    def take(self) -> dict[str, float]:
        """The means, and ``seconds`` per step; begins the next window."""
        means = {name: total / self._finite for name, total in self._sums.items()}
        means["seconds"] = (time.perf_counter() - self._began) / max(1, self._steps - self._untimed)
        self._clear()
        return means

    def state(self) -> dict[str, Any]:
        """What `restore` needs, in plain values; times are left out, so that equal trainings are equal bytes."""
        return {"sums": dict(self._sums), "steps": self._steps, "finite": self._finite}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on with the window of which this was the state."""
        self._clear()
        self._sums.update(state["sums"])
        self._steps = self._untimed = state["steps"]
        self._finite = state["finite"]

    def _clear(self) -> None:
        self._sums: dict[str, float] = {}
        self._steps, self._finite, self._untimed, self._began = 0, 0, 0, time.perf_counter()


def sum_losses(values: dict[str, Tensor]) -> Tensor:
    """The sum of the values whose name starts with ``loss``.

    Raises: ValueError if there is none.
    """
    losses = [value for name, value in values.items() if name.startswith("loss")]
    if not losses:
        raise ValueError(f"loss_fn returned no value named loss...: {sorted(values)}")
    return torch.stack(losses).sum()
