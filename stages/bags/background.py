"""Work off the critical path: what is needed next is fetched ahead, what can wait goes to another thread."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from types import TracebackType
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


@contextmanager
def fetched_ahead(
    fetch: Callable[[Item], Result], items: Sequence[Item], ahead: int
) -> Iterator[Iterator[tuple[Item, Future[Result]]]]:
    """Yield an iterator over the items and what `fetch`, in a thread, makes of each; up to `ahead` wait in memory.

    An exception of `fetch` lies in its future. On leaving, calls that have not begun are cancelled.
    """
    pool = ThreadPoolExecutor(1, thread_name_prefix="read")
    waiting: deque[tuple[Item, Future[Result]]] = deque()

    def in_order() -> Iterator[tuple[Item, Future[Result]]]:
        for item in items:
            waiting.append((item, pool.submit(fetch, item)))
            if len(waiting) > ahead:
                yield waiting.popleft()
        while waiting:
            yield waiting.popleft()

    try:
        yield in_order()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


class InBackground:
    """Runs calls one after another in a thread; a context manager that on leaving waits for all of them."""

    def __init__(self, limit: int, *, finish: bool = False) -> None:
        """How much may wait.

        Args:
            limit: Calls that may wait before `put` does, which bounds the memory that they hold.
            finish: After an exception too, run what waits; else only the call that runs is waited for.
        """
        self._limit, self._finish = limit, finish
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="work")
        self._pending: deque[Future[Any]] = deque()

    def put(self, call: Callable[..., Result], *arguments: Any) -> Future[Result]:
        """Queue a call. Raises: what an earlier call raised."""
        while len(self._pending) >= self._limit:
            self._pending.popleft().result()
        future = self._pool.submit(call, *arguments)
        self._pending.append(future)
        return future

    def check(self) -> None:
        """Raises: what a finished call raised, so that no more work is done in vain."""
        while self._pending and self._pending[0].done():
            self._pending.popleft().result()

    def __enter__(self) -> "InBackground":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            while kind is None and self._pending:
                self._pending.popleft().result()
        finally:
            self._pool.shutdown(wait=True, cancel_futures=not self._finish)
