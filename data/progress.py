"""Progress of long work: a bar on a terminal; in a log file, which cannot be redrawn, a line now and then."""

import sys
import time
from collections.abc import Iterable
from typing import Any, NoReturn, TextIO, TypeVar, overload

from tqdm import tqdm

Item = TypeVar("Item")

_SECONDS_BETWEEN_LINES = 30.0


@overload
def progress_bar(items: Iterable[Item], *, quiet: bool, **options: Any) -> "tqdm[Item]": ...
@overload
def progress_bar(*, quiet: bool, **options: Any) -> "tqdm[NoReturn]": ...
def progress_bar(items: Iterable[Any] | None = None, *, quiet: bool, **options: Any) -> "tqdm[Any]":
    """A bar on standard error; where that is no terminal, a whole line every 30 seconds and one at the end.

    Args:
        items: What is counted as it is iterated over; without it the bar is moved by `update`.
        quiet: Whether to show nothing.
        options: As tqdm has them. With ``leave=False`` work of less than 30 seconds leaves no line in a log.
    """
    file: TextIO = options.pop("file", sys.stderr)
    if quiet or (hasattr(file, "isatty") and file.isatty()):
        return tqdm(items, disable=quiet, file=file, dynamic_ncols=True, **options)
    return _Lines(items, file=file, smoothing=0, **options)  # smoothing 0: the mean speed, not that of the last step


class _Lines(tqdm):
    """Whole lines in place of a bar that is redrawn."""

    _last: float | None = None
    _shown = False

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        """Write a line if the last one, or the start, is long ago; tqdm calls this to redraw."""
        now = time.monotonic()
        if self._last is None:
            self._last = now
        elif now - self._last >= _SECONDS_BETWEEN_LINES:
            self._last = now
            self._write_line()

    def clear(self, nolock: bool = False) -> None:
        """Nothing: the lines stay."""

    def close(self) -> None:
        """Write the last line."""
        if self.disable:
            return
        self.delay = float("inf")  # tqdm's own way to say that nothing was drawn which it would have to clear
        super().close()
        if self.n != self.initial and (self.leave is not False or self._shown):
            self._write_line()

    def _write_line(self) -> None:
        self._shown = True
        self.fp.write(f"{self}\n")
        self.fp.flush()
