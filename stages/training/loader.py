"""Batches in a fixed order, prepared here or in worker processes."""

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from torch.utils.data import DataLoader, Dataset

from sapnet_pipe.data.errors import UserError
from sapnet_pipe.stages.training.cores import available_cores
from sapnet_pipe.stages.training.interruption import leave_signals_to_parent

Batch = TypeVar("Batch")


def load_in_order(batch_at: Callable[[int], Batch], order: range, workers: int) -> Iterator[Batch]:
    """`batch_at(i)` for every i of `order`, in that order.

    Args:
        batch_at: A pure function; it must be picklable where worker processes are not forked.
        workers: Processes that prepare batches ahead, but no more than there are cores; 0 prepares each when it is
            asked for. The batches are the same.
    Raises: what `batch_at` raises; a UserError keeps its kind across processes.
    """
    workers = min(workers, available_cores())
    batches = _Batches(batch_at)
    for batch in DataLoader(
        batches, batch_size=None, sampler=order, num_workers=workers, worker_init_fn=leave_signals_to_parent
    ):
        if isinstance(batch, _Failure):
            raise UserError(*batch.arguments)
        yield batch


class _Failure:
    """A UserError on its way from a worker: exceptions of several arguments do not survive the DataLoader."""

    def __init__(self, error: UserError) -> None:
        value = error.value if isinstance(error.value, (str, int, float)) else repr(error.value)
        self.arguments = (error.file, error.field, value, error.problem, error.hint)


class _Batches(Dataset[Any]):
    """`batch_at` as a map-style dataset, so that worker processes keep the order."""

    def __init__(self, batch_at: Callable[[int], Any]) -> None:
        self._batch_at = batch_at

    def __getitem__(self, index: int) -> Any:
        try:
            return self._batch_at(index)
        except UserError as error:
            return _Failure(error)
