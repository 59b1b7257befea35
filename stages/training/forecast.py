"""How long a training will take on this machine and how much memory, said once its first steps have been timed."""

import sys
import time
from typing import TYPE_CHECKING

from tqdm import tqdm

if TYPE_CHECKING:
    import torch  # else only where it is in use: `doctor` shows times where torch may be broken

try:
    import resource
except ModuleNotFoundError:  # Windows
    resource = None  # type: ignore[assignment]

_TIMED = 3  # after the first step, which also allocates and compiles
_LONG = 3600.0


class Forecast:
    """Times the first steps of a training and says what is to be expected of the others.

    Args:
        steps: That are left.
        shorter: What to set for a shorter training.
    Attributes:
        seconds: Of all these steps; None until enough are done.
    """

    def __init__(self, steps: int, device: "torch.device", *, shorter: str, quiet: bool) -> None:
        self.seconds: float | None = None
        self._steps, self._device, self._shorter, self._quiet = steps, device, shorter, quiet
        self._began, self._done, self._first = time.perf_counter(), 0, 0.0

    def after_step(self) -> None:
        """Count a step; the line comes after the fourth."""
        self._done += 1
        if self._done == 1:
            self._first = time.perf_counter()
        if self._done != 1 + _TIMED or self._steps <= self._done:
            return
        each = (time.perf_counter() - self._first) / _TIMED
        self.seconds = self._first - self._began + each * (self._steps - 1)
        if not self._quiet:
            tqdm.write(self._line(each), file=sys.stderr)

    def _line(self, each: float) -> str:
        memory = peak_memory(self._device)
        held = "" if memory is None else f", {memory / 1e9:.1f} GB of memory"
        line = f"about {spoken_time(self.seconds or 0)} for {self._steps} steps of {each:.2g} s on this machine{held}."
        return line if (self.seconds or 0) < _LONG or not self._shorter else f"{line} Sooner: {self._shorter}."


def peak_memory(device: "torch.device") -> int | None:
    """Bytes that this process has held at once, on the GPU if it trains there; None where the system does not tell."""
    if device.type == "cuda":
        import torch

        return torch.cuda.max_memory_allocated(device)
    if resource is None:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def spoken_time(seconds: float) -> str:
    """For people: 40 seconds, 12 minutes, 5.3 hours, 12 days."""
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 1.5 * length:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds:.2g} seconds" if seconds >= 1 else "a second"
