"""What the run folder and the terminal want to know of a training by Detectron2."""

import json
import sys
from pathlib import Path

from detectron2.engine import HookBase
from detectron2.utils.events import EventWriter, get_event_storage
from tqdm import tqdm

from sapnet_pipe.data.files import disk_errors, write_bytes

_NAMES = {
    "loss_ins": "loss_ins",
    "loss_cate": "loss_cate",
    "positive_pairs": "positive_pairs",
    "total_loss": "loss",
    "grad_norm": "grad_norm",
    "time": "seconds",
}


class RunRecords(EventWriter):
    """metrics.jsonl as the builtin engine writes it: one record per window of steps, each a mean over them.

    Attributes:
        last: The last record.
    """

    def __init__(self, path: Path, window: int) -> None:
        self._path, self._window, self._written = path, window, -1
        self.last: dict[str, float] = {}

    def write(self) -> None:
        """Append the record of the steps since the last one, if there are any."""
        storage = get_event_storage()
        step = storage.latest().get("total_loss", (0.0, -1))[1]
        if step <= self._written:
            return
        steps = self._window if self._written < 0 else step - self._written
        self._written = step
        buffers = storage.histories()
        record = {"iteration": step + 1, "lr": buffers["lr"].latest()}
        record |= {name: buffers[key].avg(steps) for key, name in _NAMES.items() if key in buffers}
        self.last = {key: float(value) for key, value in record.items() if key not in ("iteration", "lr")}
        with disk_errors(self._path), self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({**record, "skipped": 0}, default=float) + "\n")


class Progress(HookBase):
    """A progress bar on standard error, in place of log lines."""

    def before_train(self) -> None:
        """Begin at the iteration that the run goes on with."""
        self._bar = tqdm(
            total=self.trainer.max_iter, initial=self.trainer.start_iter, unit="it", dynamic_ncols=True, file=sys.stderr
        )

    def after_step(self) -> None:
        """Show one more step."""
        self._bar.set_postfix(loss=round(self.trainer.storage.history("total_loss").latest(), 3), refresh=False)
        self._bar.update()

    def after_train(self) -> None:
        """Leave the bar as it is."""
        self._bar.close()


def cut_back(path: Path, iterations: int, *, counted_from: int) -> None:
    """Remove the records that a killed run wrote after its last checkpoint.

    Args:
        path: Lines of JSON with an ``iteration``; a line that was not finished goes too.
        iterations: Steps that the run goes on after.
        counted_from: Number of the first step in this file.
    """
    if not path.is_file():
        return
    lines = path.read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if _iteration(line) < iterations + counted_from]
    if len(kept) < len(lines):
        write_bytes(path, "".join(f"{line}\n" for line in kept).encode())


def _iteration(line: str) -> float:
    try:
        return float(json.loads(line)["iteration"])
    except (ValueError, KeyError, TypeError):
        return float("inf")
