"""An ablation that is interrupted again and again ends with the table of an undisturbed one and repeats nothing."""

import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sapnet_pipe.data.files import read_json
from sapnet_pipe.pipeline.cli import run
from sapnet_pipe.stages.training.step import TrainStep
from tests.pipeline.ablate.ablate_toy import COMMAND, PLAN, TABLES
from tests.places import child_environment

PROGRAM = [sys.executable, "-c", "from sapnet_pipe.pipeline.cli import main; main()"]


def finished(out: Path) -> dict[str, int]:
    """When each finished run was finished."""
    return {
        file.parent.name: file.stat().st_mtime_ns
        for file in out.glob("runs/*/manifest.json")
        if read_json(file)["status"] == "complete"
    }


def check_against_undisturbed(before: list[dict[str, int]]) -> None:
    whole = COMMAND.replace("--out abl", "--out whole")
    assert run(shlex.split(whole)) == 0
    for name in TABLES:
        assert Path("abl", name).read_bytes() == Path("whole", name).read_bytes(), name
    at_the_end = finished(Path("abl"))
    assert len(at_the_end) == 4
    for moment in before:
        assert moment.items() <= at_the_end.items()


def test_an_ablation_interrupted_five_times_ends_as_an_undisturbed_one(
    job: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (job / "plan.toml").write_text(PLAN)
    moments = []
    for steps in (1, 2, 1, 2, 1):
        with monkeypatch.context() as patch:
            patch.setattr(TrainStep, "step", interrupted_after(steps))
            assert run(shlex.split(COMMAND)) == 130
        moments.append(finished(job / "abl"))
    assert run(shlex.split(COMMAND)) == 0
    assert any(moments)
    check_against_undisturbed(moments)


def interrupted_after(steps: int) -> Callable:
    """A training step that works `steps` times, and then Ctrl-C is pressed."""
    step = TrainStep.step
    done: list[int] = []

    def stop_at_last(self, iteration, batch):
        if len(done) == steps:
            raise KeyboardInterrupt
        done.append(iteration)
        return step(self, iteration, batch)

    return stop_at_last


@pytest.mark.slow
def test_an_ablation_killed_five_times_ends_as_an_undisturbed_one(job: Path) -> None:
    (job / "plan.toml").write_text(PLAN)
    environment = child_environment()
    moments = []
    for kill in range(5):
        files = seen(job / "abl")
        process = subprocess.Popen([*PROGRAM, *shlex.split(COMMAND)], env=environment)
        while len(seen(job / "abl") - files) <= kill and process.poll() is None:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
        moments.append(finished(job / "abl"))
    assert run(shlex.split(COMMAND)) == 0
    check_against_undisturbed(moments)


def seen(out: Path) -> set[Path]:
    """Files of the runs, by which a moment between two kills is told from another."""
    return {path for path in out.glob("runs/**/*") if path.is_file() and not path.name.endswith(".tmp")}


def test_a_folder_that_a_kill_left_without_a_manifest_is_begun_anew(job: Path) -> None:
    (job / "plan.toml").write_text(PLAN)
    assert run(shlex.split(COMMAND)) == 0
    table = Path("abl/plan.md").read_bytes()
    (folder,) = Path("abl/runs").glob("select-sapnet-seed0-*")
    shutil.copy(folder / "config.toml", "config.toml")
    shutil.rmtree(folder)
    folder.mkdir()
    shutil.move("config.toml", folder / "config.toml")
    assert run(shlex.split(COMMAND)) == 0
    assert Path("abl/plan.md").read_bytes() == table
