"""What the machine has: system, cores, memory, accelerators, free disk."""

import os
import platform
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sapnet_pipe.stages.training.cores import available_cores

GB = 1e9


@dataclass(frozen=True)
class Machine:
    """The machine.

    Attributes:
        cores: That this process may use.
        memory, memory_free: Bytes; None where the system does not tell.
        cuda: Per GPU its name, and its free and total bytes.
    """

    system: str
    python: str
    cores: int
    memory: int | None
    memory_free: int | None
    cuda: tuple[Mapping[str, Any], ...]
    mps: bool
    torch_cuda: str | None

    @property
    def device(self) -> str:
        """What ``--device auto`` takes."""
        return "cuda" if self.cuda else "mps" if self.mps else "cpu"


def look_at_machine(torch: Mapping[str, Any]) -> Machine:
    """The machine, with the accelerators that torch found (see `probe_child.use_torch`)."""
    memory, free = _memory()
    return Machine(
        system=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        cores=available_cores(),
        memory=memory,
        memory_free=free,
        cuda=tuple(torch.get("cuda", ())),
        mps=bool(torch.get("mps", False)),
        torch_cuda=torch.get("build"),
    )


def free_disk(path: Path) -> int | None:
    """Free bytes where `path` lies or would lie; None if that cannot be told."""
    folder = path.absolute()
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None


def gigabytes(number: float | None) -> str:
    """12.3 GB, or megabytes below a gigabyte: 350 MB, 0.4 MB."""
    if number is None:
        return "unknown"
    return f"{number / GB:.1f} GB" if number >= GB else f"{number / 1e6:.{0 if number >= 1e7 else 1}f} MB"


def _memory() -> tuple[int | None, int | None]:
    """Total and available bytes, as Linux tells; the total alone elsewhere."""
    lines = Path("/proc/meminfo")
    if lines.is_file():
        fields = dict(line.split(":") for line in lines.read_text().splitlines() if ":" in line)
        total, free = (int(fields[key].split()[0]) * 1024 for key in ("MemTotal", "MemAvailable"))
        return total, free
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), None
    except (ValueError, OSError, AttributeError):
        return None, None
