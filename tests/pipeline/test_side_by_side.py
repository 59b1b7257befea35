"""Jobs at the same time: their results in order, their errors as they were raised."""

import os
import time
from functools import partial
from pathlib import Path

import pytest

from sapnet_pipe.data.errors import UserError
from sapnet_pipe.pipeline.side_by_side import side_by_side
from sapnet_pipe.stages.training.cores import available_cores

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
