"""Standard output and error that are full, closed, or read by nobody, and names that are not UTF-8."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from sapnet_pipe.pipeline.cli import run
from tests.pipeline.one_line import check_message
from tests.pipeline.toy_job import SELECT

FULL = Path("/dev/full")
COMMAND = [sys.executable, "-m", "sapnet_pipe", "settings", "points"]

pytestmark = pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")


def test_a_full_disk_behind_standard_output_is_named_as_such() -> None:
    with FULL.open("w") as full:
        done = subprocess.run(COMMAND, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2
    check_message(done.stderr, "standard output * cannot be written there (No space left * another file")


def test_a_pipe_that_nobody_reads_any_more_is_no_fault() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(COMMAND, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


def test_an_error_that_cannot_be_written_keeps_its_exit_code() -> None:
    with FULL.open("w") as full:
        assert subprocess.run([*COMMAND, "--nonsense"], stderr=full, check=False).returncode == 2


@pytest.mark.parametrize("closed", ["2>&-", ">&-"])
def test_a_daemon_without_standard_files_does_its_work(closed: str) -> None:
    done = subprocess.run(["sh", "-c", f'"$@" {closed}', "sh", *COMMAND], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_run_folder_whose_name_is_not_utf8_is_refused_before_the_work(
    job: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    place = job / os.fsdecode(b"caf\xe9")
    place.mkdir()
    assert run([*shlex.split(SELECT), "--out", str(place / "run")]) == 2
    check_message(capfd.readouterr().err, "are UTF-8")
    assert list(place.iterdir()) == []


def test_predictions_may_have_a_name_that_is_not_utf8(job: Path, capfd: pytest.CaptureFixture[str]) -> None:
    name = os.fsdecode(b"caf\xe9.json")
    assert run(["predict", "--run", "seg", "--images", "images", "--out", name, "--quiet", "--json"]) == 0
    assert "caf\\udce9.json" in capfd.readouterr().out
    assert (job / os.fsdecode(b"caf\xe9.images.json")).is_file()


def test_a_photograph_whose_name_is_not_utf8_is_named_before_the_work(
    job: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (job / "images" / os.fsdecode(b"caf\xe9.png")).write_bytes((job / "images/1.png").read_bytes())
    assert run(["predict", "--run", "seg", "--images", "images", "--out", "new.json", "--quiet"]) == 2
    check_message(capfd.readouterr().err, "a name that is not UTF-8 * Rename it")
    assert not (job / "new.json").exists()
