"""metrics.jsonl and TensorBoard events of a training, cut back to the checkpoint on resume."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from torch.utils.tensorboard import SummaryWriter

from sapnet_pipe.data.files import disk_errors
from sapnet_pipe.stages.training.run_files import METRICS, TENSORBOARD


class MetricLog:
    """Writes one JSON line per record to ``out/metrics.jsonl`` and the same numbers to ``out/tensorboard``.

    Args:
        out: The run folder; created if needed.
        keep_bytes: metrics.jsonl is first cut to this length; what a killed run wrote after its checkpoint goes.
        first_step: TensorBoard hides older events from this step on.
        silent: Touch and write nothing: another process of this training does.
    """

    def __init__(self, out: Path, keep_bytes: int, first_step: int, *, silent: bool = False) -> None:
        self.path = out / METRICS
        self._silent = silent
        if silent:
            return
        with disk_errors(self.path):
            out.mkdir(parents=True, exist_ok=True)
            self.path.touch()
            self._file = self.path.open("r+b")
            self._file.seek(0, 2)
            self._file.truncate(min(keep_bytes, self._file.tell()))
            self._file.seek(0, 2)
        self._events = SummaryWriter(str(out / TENSORBOARD), purge_step=first_step)

    def write(self, record: Mapping[str, float | int | str], step: int) -> None:
        """Append a record; numbers also become TensorBoard scalars at `step`."""
        if self._silent:
            return
        with disk_errors(self.path):
            self._file.write((json.dumps(record, allow_nan=False) + "\n").encode())
            self._file.flush()
        for name, value in record.items():
            if name != "iteration" and not isinstance(value, str):
                self._events.add_scalar(name, value, step)

    def bytes_written(self) -> int:
        """Length of metrics.jsonl now."""
        return 0 if self._silent else self._file.tell()

    def __enter__(self) -> "MetricLog":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._silent:
            self._file.close()
            self._events.close()


def metrics_size(out: Path) -> int:
    """Length of the run's metrics.jsonl, 0 if there is none yet."""
    path = out / METRICS
    return path.stat().st_size if path.is_file() else 0
