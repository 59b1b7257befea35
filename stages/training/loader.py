"""Batches in a fixed order, prepared here or in worker processes."""

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

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
    loader = DataLoader(
        _Batches(batch_at), batch_size=None, sampler=order, num_workers=workers, worker_init_fn=leave_signals_to_parent
    )
    batches = iter(loader)
    for _ in order:
        try:
            batch = next(batches)
        except RuntimeError as error:
            if "DataLoader worker" in str(error):  # it was killed
                raise _short_of_memory(workers, str(error)) from error
            raise
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
            return _shared(self._batch_at(index))
        except UserError as error:
            return _Failure(error)


def _shared(batch: Any) -> Any:
    """In a worker, the batch with its tensors in shared memory.

    There they go anyway, but in a thread of torch's that loses the batch where the room is short, and the main process
    would wait for it for ever.
    """
    worker = get_worker_info()
    if worker is None:
        return batch
    try:
        apply_to_collection(batch, Tensor, Tensor.share_memory_, allow_frozen=True)
    except RuntimeError as error:
        raise _short_of_memory(worker.num_workers, str(error)) from error
    return batch


def _short_of_memory(workers: int, error: str) -> UserError:
    hint = "Set train.workers=0 and test.workers=0, or give /dev/shm more room (docker run --shm-size=8g)"
    problem = f"whose processes lack memory or room in /dev/shm ({error.splitlines()[0]})"
    return UserError("settings", "train.workers", workers, problem, hint)
