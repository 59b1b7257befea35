"""metrics.jsonl and TensorBoard events of a training, cut back to the checkpoint on resume."""

import json
import logging
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from sapnet_pipe.data.files import disk_errors, write_bytes
from sapnet_pipe.stages.training.run_files import METRICS, TENSORBOARD

_LOG = logging.getLogger(__name__)
_CLOSING_SECONDS = 10.0


class MetricLog:
    """Writes one JSON line per record to ``out/metrics.jsonl`` and the same numbers to ``out/tensorboard``.

    Args:
        out: The run folder; created if needed.
        keep_bytes: metrics.jsonl is first cut to this length; what a killed run wrote after its checkpoint goes, and so
            do damaged lines, with a warning.
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
            _cut(self.path, keep_bytes)
            self._file = self.path.open("ab")
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
            close_in_time(self._events.close)


def close_in_time(close: Callable[[], None]) -> None:
    """Close a TensorBoard writer, or leave it where it does not end: the process can.

    Its thread and this one share a queue. A Ctrl-C that comes while this one holds the lock of the queue leaves it
    locked, and then they wait for each other for ever.

    Raises: what `close` raises.
    """
    errors: list[Exception] = []

    def work() -> None:
        try:
            close()
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(_CLOSING_SECONDS)
    if thread.is_alive():
        _LOG.warning("the last TensorBoard events may be missing: their writer does not end")
    if errors:
        raise errors[0]


def metrics_size(out: Path) -> int:
    """Length of the run's metrics.jsonl, 0 if there is none yet."""
    path = out / METRICS
    return path.stat().st_size if path.is_file() else 0


def read_records(out: Path) -> list[dict[str, Any]]:
    """The records of the run's metrics.jsonl; damaged lines are left out."""
    path = out / METRICS
    with disk_errors(path):
        lines = path.read_bytes().splitlines(keepends=True)
    return [record for line in lines if (record := _record(line)) is not None]


def _cut(path: Path, keep_bytes: int) -> None:
    """Keep the first bytes of the log, but for damaged lines; a crash or a second writer leaves such."""
    content = path.read_bytes() if path.is_file() else b""
    sound = [line for line in content.splitlines(keepends=True) if _record(line) is not None]
    kept, whole = content[:keep_bytes], b"".join(sound)
    if kept and not kept.endswith(b"\n"):  # the damage has moved what comes after it
        kept = whole[:keep_bytes]
    kept_lines = [line for line in kept.splitlines(keepends=True) if _record(line) is not None]
    if len(whole) < len(content):
        damaged = content.count(b"\n") + (not content.endswith(b"\n")) - len(sound)
        _LOG.warning("%s: damaged lines that are dropped: %d", path, damaged)
    if b"".join(kept_lines) != content or not path.is_file():
        write_bytes(path, b"".join(kept_lines))


def _record(line: bytes) -> dict[str, Any] | None:
    """The record of a line; None if it is damaged or was not finished."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) and line.endswith(b"\n") else None
