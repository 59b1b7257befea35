"""The processes of one training: this one alone, or as many as `torchrun` started.

Before the process group is set up (torchrun's environment) and after (torch.distributed) these functions say the same;
a process that was started alone is rank 0 of a world of one.
"""

import os
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor
from torch import distributed as dist

Value = TypeVar("Value")


@dataclass(frozen=True)
class World:
    """Where a process stands among those of its training: `rank` of `size`."""

    rank: int = 0
    size: int = 1

    def bounds(self, total: int) -> tuple[int, int]:
        """First and end of this rank's part of `total` things that stand in a row."""
        return self.rank * total // self.size, (self.rank + 1) * total // self.size


def current_world() -> World:
    """Rank of this process and size of its world."""
    if _initialized():
        return World(dist.get_rank(), dist.get_world_size())
    return World(_environment("RANK", 0), _environment("WORLD_SIZE", 1))


def world_size() -> int:
    """Processes of this training, on all machines."""
    return current_world().size


def local_world_size() -> int:
    """Processes of this training on this machine."""
    return _environment("LOCAL_WORLD_SIZE", 1)


def local_rank() -> int:
    """Rank of this process among those on this machine: the index of its GPU."""
    return _environment("LOCAL_RANK", 0)


def is_main_process() -> bool:
    """Whether this is rank 0, which writes the files and speaks to the user."""
    return current_world().rank == 0


def all_reduce_sum(value: Tensor) -> Tensor:
    """The sum over the ranks; no gradient flows through it."""
    if world_size() == 1 or not _initialized():
        return value
    total = value.detach().clone()
    dist.all_reduce(total)
    return total


def all_reduce_mean(value: Tensor) -> Tensor:
    """The mean over the ranks; no gradient flows through it."""
    return all_reduce_sum(value) / world_size()


def loss_normalizer(count: Tensor) -> Tensor:
    """What a loss is divided by, so that the mean over the ranks is the loss of the whole batch.

    Args:
        count: Things that the loss of this rank sums over; at least one is taken to be there in all.
    Returns: the total over the ranks, divided by their number.
    """
    return all_reduce_sum(count.float()).clamp(min=1) / world_size()


def gather(value: Value | None) -> list[Value]:
    """The picklable values of all ranks but None, in order, on rank 0; an empty list on the others."""
    world = current_world()
    if world.size == 1 or not _initialized():
        return [] if value is None else [value]
    found: list[Value | None] | None = [None] * world.size if world.rank == 0 else None
    dist.gather_object(value, found)
    return [] if found is None else [part for part in found if part is not None]


def any_rank(asked: bool, device: torch.device) -> bool:
    """Whether it is so in any rank: all of them get the same answer. `device` is that of the training."""
    if world_size() == 1 or not _initialized():
        return asked
    return bool(all_reduce_sum(torch.tensor(float(asked), device=device)) > 0)


def barrier() -> None:
    """Go on once every process is here."""
    if world_size() > 1 and _initialized():
        dist.barrier()


def _initialized() -> bool:
    return dist.is_available() and dist.is_initialized()


def _environment(name: str, default: int) -> int:
    """A number that torchrun gives its processes; `default` outside of it, whatever the variable says."""
    launched = dist.is_available() and dist.is_torchelastic_launched()
    return int(os.environ.get(name, default)) if launched else default
