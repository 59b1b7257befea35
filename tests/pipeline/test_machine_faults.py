"""Plain exceptions of a machine that lacks something, as one line that says what to do."""

import pytest

from sapnet_pipe.pipeline.machine_faults import machine_fault
from sapnet_pipe.stages.bags.background import InBackground, fetched_ahead


class OutOfMemoryError(RuntimeError):
    """As torch names it."""


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MemoryError(), "memory: it is used up"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), "memory: it is used up"),
        (OutOfMemoryError("CUDA out of memory\nand more"), "device memory: it is used up (CUDA out of memory)"),
        (RuntimeError("can't start new thread"), "threads: no more can be started"),
        (RuntimeError("[../gloo/transport/tcp/pair.cc] closed"), "another one of this training has ended"),
    ],
)
def test_what_the_machine_lacks_is_said_in_one_line(error: Exception, words: str) -> None:
    line = machine_fault(error)
    assert line is not None
    assert words in line
    assert "\n" not in line


def test_other_faults_are_not_the_machines() -> None:
    assert machine_fault(RuntimeError("size mismatch")) is None


def test_a_thread_that_cannot_start_ends_the_work_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("threading.Thread.start", refuse)
    with pytest.raises(RuntimeError, match="new thread"), fetched_ahead(str, [1, 2, 3], 2) as items:
        list(items)
    with pytest.raises(RuntimeError, match="new thread"), InBackground(1, finish=True) as background:
        background.put(str, 1)
