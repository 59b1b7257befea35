"""Independent jobs at the same time, each in a process of its own with its share of the CPU cores.

The demo's two SOLOv2, which are small, take 230 s at once with one thread each and 330 s in turn with two threads each.
It does not pay for the selectors, whose larger layers fill two threads.
"""

import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from typing import TypeVar

from sapnet_pipe.data.errors import UserError

Result = TypeVar("Result")


def side_by_side(jobs: Sequence[Callable[[], Result]], *, device: str = "auto") -> list[Result]:
    """The jobs' results, in their order.

    On a GPU, or with fewer cores than jobs, the jobs run one after the other in this process.

    Args:
        jobs: Picklable functions without arguments; so must be what they return and raise.
        device: The setting that the jobs run with.
    Raises: what the first failing job raises; the others are stopped. UserError if a job's process is killed.
    """
    from sapnet_pipe.stages.training.devices import available_cores, pick_device

    cores = available_cores()
    if len(jobs) < 2 or cores < len(jobs) or pick_device(device).type != "cpu":
        return [job() for job in jobs]
    with ExitStack() as stack:
        # A process per job, each started afresh: torch's threads do not survive a fork.
        context = multiprocessing.get_context("spawn")
        threads = cores // len(jobs)
        pools = [
            stack.enter_context(ProcessPoolExecutor(1, context, prepare_process, (threads, line)))
            for line in range(len(jobs))
        ]
        try:
            return [future.result() for future in [pool.submit(job) for pool, job in zip(pools, jobs, strict=True)]]
        except BaseException as error:
            for process in multiprocessing.active_children():
                process.terminate()
            if not isinstance(error, BrokenProcessPool):
                raise
            problem, hint = "which was killed, perhaps because memory ran out", "Close other programs and run it again"
            raise UserError("machine", "process", "one of several at once", problem, hint) from error


def prepare_process(threads: int, line: int) -> None:
    """Before torch and tqdm are imported, which read these then: the share of cores, and a line for the bars."""
    if threads:
        os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    os.environ["TQDM_POSITION"] = str(line)
