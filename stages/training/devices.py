"""Which device a stage runs on, and how many CPU threads it may take."""

import os

import torch

from sapnet_pipe.data.errors import UserError
from sapnet_pipe.stages.training.cores import available_cores
from sapnet_pipe.stages.training.distributed import local_rank, world_size


def pick_device(name: str = "auto") -> torch.device:
    """The device behind a ``device`` setting.

    Args:
        name: ``auto`` (CUDA, else MPS, else CPU), ``cpu``, ``cuda``, ``cuda:N`` or ``mps``. Of several processes
            that `torchrun` started each takes a GPU of its own.
    Raises: UserError if there is no such device here.
    """
    several = world_size() > 1
    if name == "auto":
        alone = "mps" if _has_mps() and not several else "cpu"
        name = "cuda" if torch.cuda.is_available() else alone
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise _no_device(name, "which is not a device name") from error
    if several and (device.type == "mps" or device.index is not None):
        raise _no_device(name, "one device for several processes")
    if device.type == "cuda":
        index = local_rank() if device.index is None else device.index
        if index >= torch.cuda.device_count():
            raise _no_device(name, f"but this machine shows {torch.cuda.device_count()} CUDA devices")
        return torch.device("cuda", index)
    if device.type == "mps" and not _has_mps():
        raise _no_device(name, "but this machine has no Apple GPU")
    if device.type not in ("cpu", "mps"):
        raise _no_device(name, "which is not supported")
    return device


def limit_threads() -> None:
    """Let torch use the cores it really has; oversubscription in containers costs more than it brings.

    ``OMP_NUM_THREADS``, where the user set it, has the last word.
    """
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(min(torch.get_num_threads(), available_cores()))


def _has_mps() -> bool:
    return torch.backends.mps.is_available()


def _no_device(name: str, problem: str) -> UserError:
    return UserError("settings", "device", name, problem, "Use auto, cpu, cuda, cuda:N or mps")


def train_layout(device: torch.device) -> torch.memory_format:
    """Channels last on a GPU, whose tensor cores want it. Not on a CPU: oneDNN's training step takes 7 % longer with it
    (R-50, 256 pixels), though inference takes less; prediction therefore keeps it, see `results.py`."""
    return torch.contiguous_format if device.type == "cpu" else torch.channels_last
