"""Independent jobs at the same time, each in a process of its own with its share of the CPU cores.

The demo's two SOLOv2, which are small, take 230 s at once with one thread each and 330 s in turn with two threads each.
It does not pay for the selectors, whose larger layers fill two threads.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from typing import TypeVar

from sapnet_pipe.data.errors import UserError

Result = TypeVar("Result")


def side_by_side(
    jobs: Sequence[Callable[[], Result]], *, device: str = "auto", threads: int | None = None
) -> list[Result]:
    """The jobs' results, in their order.

    On a GPU, or with fewer cores than jobs, the jobs run one after the other in this process.

    Args:
        jobs: Picklable functions without arguments; so must be what they return and raise.
        device: The setting that the jobs run with.
        threads: Of each job, where its bits depend on them; else they share the cores.
    Raises: what the first failing job raises; the others are stopped. UserError if a job's process is killed.
    """
    from sapnet_pipe.stages.training.devices import available_cores, pick_device

    cores = available_cores()
    if len(jobs) < 2 or cores < len(jobs) or pick_device(device).type != "cpu":
        return [job() for job in jobs]
    each = threads or cores // len(jobs)
    with process_pools([each] * len(jobs), hint="Close other programs and run it again") as pools:
        running = [pool.submit(run_job, job) for pool, job in zip(pools, jobs, strict=True)]
        return [future.result() for future in running]


@contextmanager
def process_pools(threads: Sequence[int], *, hint: str) -> Iterator[list[ProcessPoolExecutor]]:
    """A process for each number of threads, started afresh: torch's threads do not survive a fork.

    The processes end with this one, however it ends. For a Ctrl-C they finish their training's step and write it down.

    Args:
        threads: 0 leaves them alone. hint: What to do if a process is killed.
    Raises: UserError if a process is killed.
    """
    context = multiprocessing.get_context("spawn")
    with ExitStack() as stack:
        pools = [
            stack.enter_context(ProcessPoolExecutor(1, context, _prepare_process, (count, line)))
            for line, count in enumerate(threads)
        ]
        try:
            yield pools
        except BaseException as error:
            _end(pools)
            if not isinstance(error, BrokenProcessPool):
                raise
            problem = "which was killed, perhaps because memory ran out"
            raise UserError("machine", "process", "one of several at once", problem, hint) from error


def run_job(job: Callable[..., Result], *arguments: object) -> Result:
    """Do a job in a process of `process_pools`; SIGTERM interrupts it as Ctrl-C would."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return job(*arguments)
    finally:
        signal.signal(signal.SIGTERM, before)


def _end(pools: Sequence[ProcessPoolExecutor]) -> None:
    """Let the processes end their jobs, and at a second Ctrl-C end them at once."""
    processes = multiprocessing.active_children()
    try:
        for process in processes:
            process.terminate()
        for pool in pools:
            pool.shutdown(cancel_futures=True)
    except KeyboardInterrupt:
        for process in processes:
            process.kill()


def _prepare_process(threads: int, line: int) -> None:
    """Before torch and tqdm are imported, which read these then: the share of cores, and a line for the bars."""
    if threads:
        os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    os.environ["TQDM_POSITION"] = str(line)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent has it from the terminal too, and ends this process
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)  # nobody waits for a result; the last checkpoint stays
