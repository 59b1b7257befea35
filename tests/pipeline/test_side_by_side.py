"""Jobs at the same time: their results in order, their errors as they were raised."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from sapnet_pipe.data.errors import UserError
from sapnet_pipe.pipeline.side_by_side import side_by_side
from sapnet_pipe.stages.training.cores import available_cores
from tests.places import child_environment

needs_two_cores = pytest.mark.skipif(available_cores() < 2, reason="needs two cores: jobs run in turn")


def _square(number: int) -> tuple[int, int]:
    return number * number, os.getpid()


def _fail() -> None:
    raise UserError("labels.json", "annotations[3].bbox", [1, 2], "not a box", "Give four numbers")


def _die() -> None:
    os.kill(os.getpid(), 9)


def _wait(path: Path) -> None:
    time.sleep(60)
    path.touch()


@needs_two_cores
def test_results_come_in_order_from_other_processes() -> None:
    results = side_by_side([partial(_square, 3), partial(_square, 4)], device="cpu")
    assert [value for value, _ in results] == [9, 16]
    assert len({pid for _, pid in results} | {os.getpid()}) == 3


def test_a_single_job_runs_in_this_process() -> None:
    assert side_by_side([partial(_square, 3)], device="cpu") == [(9, os.getpid())]


@needs_two_cores
def test_a_user_error_arrives_whole_and_stops_the_other_job(tmp_path: Path) -> None:
    started = time.monotonic()
    with pytest.raises(UserError, match=r"^labels\.json: annotations\[3\]\.bbox = \[1, 2\], not a box\. Give four"):
        side_by_side([partial(_fail), partial(_wait, tmp_path / "done")], device="cpu")
    assert time.monotonic() - started < 40
    assert not (tmp_path / "done").exists()


@needs_two_cores
def test_a_killed_job_is_an_error_of_one_line() -> None:
    with pytest.raises(UserError, match="killed"):
        side_by_side([_die, _die], device="cpu")


def _interruptible(folder: Path) -> None:
    (folder / f"{os.getpid()}").touch()
    try:
        time.sleep(60)
    except KeyboardInterrupt:
        (folder / f"{os.getpid()}.ended").touch()
        raise


_PARENT = """
import sys
from functools import partial
from pathlib import Path
from sapnet_pipe.pipeline.side_by_side import process_pools, run_job
from tests.pipeline.test_side_by_side import _interruptible
if __name__ == "__main__":
    with process_pools([1, 1], hint="") as pools:
        running = [pool.submit(run_job, _interruptible, Path(sys.argv[1])) for pool in pools]
        [future.result() for future in running]
"""


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks into /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_children_end_with_their_parent(tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "parent.py").write_text(_PARENT)
    (tmp_path / "marks").mkdir()
    command = [sys.executable, str(tmp_path / "parent.py"), str(tmp_path / "marks")]
    parent = subprocess.Popen(command, env=child_environment(), stderr=subprocess.DEVNULL)
    children = _wait_for(lambda: [int(file.name) for file in (tmp_path / "marks").iterdir()], count=2)
    parent.send_signal(number)
    parent.wait(20)
    _wait_for(lambda: [child for child in children if not Path(f"/proc/{child}").exists()], count=2)
    ended = len(list((tmp_path / "marks").glob("*.ended")))
    assert ended == (2 if number == signal.SIGINT else 0), "an interruption lets them finish, a kill does not"


def _wait_for(found: Callable[[], list[int]], *, count: int) -> list[int]:
    for _ in range(600):
        if len(values := found()) >= count:
            return values
        time.sleep(0.05)
    raise TimeoutError
