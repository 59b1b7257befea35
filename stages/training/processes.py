"""The processes of one training: this one alone, or as many as `torchrun` started.

Before the processes know each other (torchrun's environment) and after (torch.distributed) these functions say the
same; a process that was started alone is the first of one.
"""

import os
from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor
from torch import distributed as dist

Value = TypeVar("Value")


@dataclass(frozen=True)
class Share:
    """Which part of a whole this process has: `rank` of `count`."""

    rank: int = 0
    count: int = 1

    def bounds(self, total: int) -> tuple[int, int]:
        """First and end of this process's part of `total` things that stand in a row."""
        return self.rank * total // self.count, (self.rank + 1) * total // self.count


def own_share() -> Share:
    """This process's share of the work."""
    if _connected():
        return Share(dist.get_rank(), dist.get_world_size())
    return Share(_environment("RANK", 0), _environment("WORLD_SIZE", 1))


def processes_here() -> int:
    """Processes of this training on this machine."""
    return _environment("LOCAL_WORLD_SIZE", 1)


def rank_here() -> int:
    """Which of the processes on this machine this one is: the index of its GPU."""
    return _environment("LOCAL_RANK", 0)


def is_first() -> bool:
    """Whether this process writes files and speaks to the user."""
    return own_share().rank == 0


def summed(value: Tensor) -> Tensor:
    """The sum over the processes; no gradient flows through it."""
    if own_share().count == 1 or not _connected():
        return value
    total = value.detach().clone()
    dist.all_reduce(total)
    return total


def averaged(value: Tensor) -> Tensor:
    """The mean over the processes; no gradient flows through it."""
    return summed(value) / own_share().count if own_share().count > 1 else value


def part_of_total(count: Tensor) -> Tensor:
    """What a loss is divided by, so that the mean over the processes is the loss of the whole batch.

    Args:
        count: Things that the loss of this process sums over; at least one is taken to be there in all.
    Returns: the processes' total, divided by their number.
    """
    return summed(count.float()).clamp(min=1) / own_share().count


def gathered(value: Value | None) -> list[Value]:
    """The picklable values of all processes but None, by rank, in the first process; an empty list in the others."""
    share = own_share()
    if share.count == 1 or not _connected():
        return [] if value is None else [value]
    found: list[Value | None] | None = [None] * share.count if share.rank == 0 else None
    dist.gather_object(value, found)
    return [] if found is None else [part for part in found if part is not None]


def wait_for_all() -> None:
    """Go on once every process is here."""
    if own_share().count > 1 and _connected():
        dist.barrier()


def _connected() -> bool:
    return dist.is_available() and dist.is_initialized()


def _environment(name: str, default: int) -> int:
    """A number that torchrun gives its processes; `default` outside of it, whatever the variable says."""
    launched = dist.is_available() and dist.is_torchelastic_launched()
    return int(os.environ.get(name, default)) if launched else default
