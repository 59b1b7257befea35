"""Ctrl-C and SIGTERM during a training: the step in progress is finished and its state written before the end."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_SAID = b"\nStopping after this step; once more stops at once.\n"


class Interruption:
    """Whether the user, or the system, has asked this process to end.

    Attributes:
        asked: By which signal; None as long as nobody has.
    """

    def __init__(self, quiet: bool, tell: Callable[[], None]) -> None:
        self.asked: int | None = None
        self._quiet, self._tell = quiet, tell

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal: note the first, end at once for its repetition.

        Another signal than the first is no repetition: torchrun passes a Ctrl-C, which its processes have had from the
        terminal, on to them as SIGTERM.
        """
        self._tell()
        if self.asked == number:
            raise KeyboardInterrupt
        if self.asked is None:
            self.asked = number
            if not self._quiet:
                os.write(2, _SAID)  # print could be interrupted in the middle of itself


@contextmanager
def finishing_steps(*, quiet: bool, tell: Callable[[], None] = lambda: None) -> Iterator[Interruption]:
    """Hold Ctrl-C and SIGTERM back: inside, `Interruption.asked` tells of them, and `tell` is called at each.

    What was asked for and not obeyed inside, by a KeyboardInterrupt, is passed on at the end to who handles the signals
    outside. Signals that are ignored stay so (a shell's "&"), and threads other than the main one have none to handle.
    """
    interruption = Interruption(quiet, tell)
    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.getsignal(number) for number in _SIGNALS}
    handled = [number for number, handler in before.items() if handler not in (signal.SIG_IGN, None)]
    obeyed = False
    try:
        for number in handled:
            signal.signal(number, interruption)
        yield interruption
    except KeyboardInterrupt:
        obeyed = True
        raise
    finally:
        for number in handled:
            signal.signal(number, before[number])
        if interruption.asked is not None and not obeyed:
            signal.raise_signal(interruption.asked)


def leave_signals_to_parent(worker: int = 0) -> None:
    """In a helper process: Ctrl-C in the terminal, which reaches it too, is its parent's business, who ends it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
