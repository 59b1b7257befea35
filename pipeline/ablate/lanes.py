"""Many independent jobs over few devices: a process per GPU, or per two CPU cores.

The selectors fill two threads each (`pipeline.side_by_side`), so on two cores the trainings run one after the other, in
this process.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from typing import TypeVar

from sapnet_pipe.data.errors import UserError
from sapnet_pipe.pipeline.side_by_side import process_pools, run_job

Result = TypeVar("Result")
Job = Callable[[str], Result]
_CORES_PER_LANE = 2


@dataclass(frozen=True)
class Lane:
    """A device, and how many CPU threads a job on it may take; 0 leaves them alone."""

    device: str
    threads: int = 0


def lanes_for(device: str, parallel: int) -> list[Lane]:
    """The lanes of this machine.

    Args:
        device: The setting: ``auto`` and ``cuda`` take every GPU there is, others the one that they name.
        parallel: Jobs at once; 0 takes one per GPU, or per two CPU cores.
    Raises: UserError if there is no such device.
    """
    import torch

    from sapnet_pipe.stages.training.cores import available_cores
    from sapnet_pipe.stages.training.devices import pick_device

    target = pick_device(device)
    cores = available_cores()
    if target.type == "cpu":
        count = parallel or max(1, cores // _CORES_PER_LANE)
        return [Lane("cpu", max(1, cores // count) if count > 1 else 0)] * count
    if target.type == "cuda" and device in ("auto", "cuda"):
        devices = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    else:
        devices = [device]
    count = parallel or len(devices)
    return [Lane(devices[place % len(devices)], max(1, cores // count)) for place in range(count)]


def run_in_lanes(jobs: Sequence[Job[Result]], lanes: Sequence[Lane]) -> Iterator[tuple[int, Result | UserError]]:
    """Run every job on a lane as soon as one is free.

    Args:
        jobs: Picklable functions of the device's name.
    Yields: a job's place and what it returned, as they end; in place of a result the UserError that it ended with.
    Raises: whatever else a job raises, after the others were stopped; UserError if a process is killed.
    """
    if len(lanes) == 1 or len(jobs) < 2:
        for place, job in enumerate(jobs):
            yield place, _caught(job, lanes[0].device)
        return
    used = lanes[: len(jobs)]
    with process_pools([lane.threads for lane in used], hint="Lower parallel, and run it again") as pools:
        free = deque(zip(used, pools, strict=True))
        waiting = deque(enumerate(jobs))
        running: dict[Future[Result | UserError], tuple[int, tuple[Lane, ProcessPoolExecutor]]] = {}
        while waiting or running:
            while waiting and free:
                place, job = waiting.popleft()
                lane, pool = free.popleft()
                running[pool.submit(run_job, _caught, job, lane.device)] = place, (lane, pool)
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                place, freed = running.pop(future)
                free.append(freed)
                yield place, future.result()


def _caught(job: Job[Result], device: str) -> Result | UserError:
    try:
        return job(device)
    except UserError as error:
        return error
