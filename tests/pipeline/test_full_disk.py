"""A disk that is full: one line, nothing half-written, and the same command works once there is room."""

import errno
import json
import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sapnet_pipe.pipeline.cli import run
from tests.pipeline.one_line import check_message
from tests.pipeline.toy_job import BAGS, SELECT, TRAIN, snapshot

resource = pytest.importorskip("resource", reason="limits on file sizes are set so on POSIX systems alone")
PREDICT = "predict --run seg --images images --out new/pred.json --quiet"
COMMANDS = {
    "points": ("points --annotations truth.json --out new/points.json --quiet", 500),
    "first file of a store": (f"{BAGS} --out new/bags", 300),
    "shard": (f"{BAGS} --out new/bags", 2000),
    "pseudo labels": ("select --bags bags --images images --out new/run --method sam-top1 --quiet", 2500),
    "selector": (f"{SELECT} --out new/run", 20_000),
    "segmenter": (f"{TRAIN} --labels run/pseudo_labels.json --out new/seg", 20_000),
    "predictions": (PREDICT, 1500),
}


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file may grow past `size` bytes: writing more fails as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(
    ("command", "room"), [pytest.param(*value, id=name.replace(" ", "-")) for name, value in COMMANDS.items()]
)
def test_a_full_disk_ends_in_one_line_and_leaves_nothing(
    job: Path, capfd: pytest.CaptureFixture[str], command: str, room: int
) -> None:
    before = snapshot(job)
    with largest_file(room):
        code = run(shlex.split(command))
    assert code == 2
    check_message(capfd.readouterr().err, "new/ * grew past the limit * another folder")
    assert snapshot(job) == before
    assert run(shlex.split(command)) == 0, "with room again the same command works"


def test_pictures_that_do_not_fit_leave_the_predictions_whole(job: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with largest_file(5000):
        code = run(shlex.split(f"{PREDICT} --draw new/drawn --set draw_score=0"))
    assert code == 2
    check_message(capfd.readouterr().err, "new/drawn/1.png * grew past the limit")
    assert sorted(path.name for path in (job / "new").iterdir()) == ["pred.images.json", "pred.json"]
    assert json.loads((job / "new/pred.json").read_text())


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES])
def test_what_the_disk_says_is_said(
    job: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    before = snapshot(job)
    monkeypatch.setattr(os, "fsync", refuse)
    words = {
        errno.ENOSPC: "the disk is full",
        errno.EDQUOT: "quota",
        errno.EROFS: "read-only",
        errno.EACCES: "may not be written",
    }
    for command in ("points --annotations truth.json --out new.json --quiet", f"{BAGS} --out new"):
        assert run(shlex.split(command)) == 2
        check_message(capfd.readouterr().err, f"new * {words[number]}")
        assert snapshot(job) == before
