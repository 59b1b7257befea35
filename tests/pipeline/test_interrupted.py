"""Ctrl-C and SIGTERM at any moment: the same command, of trainings with --resume, ends as an undisturbed one."""

import json
import random
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

from sapnet_pipe.data.files import read_json, write_json
from sapnet_pipe.pipeline.cli import run
from sapnet_pipe.stages.training.checkpoint import load_checkpoint, load_tensors
from sapnet_pipe.stages.training.run_files import CHECKPOINT, MODEL, PSEUDO_LABELS
from tests.pipeline.ablate.ablate_toy import COMMAND, PLAN
from tests.pipeline.toy_job import BAGS, SELECT, TRAIN
from tests.places import child_environment

PROGRAM = [sys.executable, "-m", "sapnet_pipe"]
STEPS = 40
LONGER = f"--set train.max_iterations={STEPS} --set train.log_every=3 --set train.checkpoint_every=1000"
COMMANDS = {
    "select": f"{SELECT} {LONGER} --set guard.after=20",
    "train-seg": f"{TRAIN} {LONGER} --labels run/pseudo_labels.json",
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("moments", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_an_interrupted_command_ends_as_an_undisturbed_one(job: Path, command: str, moments: int) -> None:
    draw = random.Random(moments)
    done, interrupted = 0, 0
    for moment in range(moments):
        code, err = _interrupted_after(draw.uniform(0.0, 0.5), moment, command, job)
        if code == 0:
            break
        assert code == 130, err
        assert err.splitlines()[-1].startswith("sapnet-pipe: interrupted. Run the same command again with --resume")
        assert "Traceback" not in err
        interrupted += 1
        if (job / "cut" / CHECKPOINT).is_file():
            now = load_checkpoint(job / "cut" / CHECKPOINT).iteration
            assert now >= done
            done = now
    assert interrupted
    for folder in ("cut --resume", "whole"):
        process = _started(f"{COMMANDS[command]} --out {folder}")
        _, err = process.communicate()
        assert process.returncode == 0, err
    _assert_same_end(job / "cut", job / "whole", command)


@pytest.mark.parametrize("moments", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_interrupted_bags_lose_no_finished_photograph(job: Path, moments: int) -> None:
    _write_many(job, 8 * moments)
    line = f"{BAGS.replace('shard_images=2', 'shard_images=64')} --out"
    draw, done, interrupted = random.Random(moments), 0, 0
    for moment in range(moments):
        process = _started(f"{line} cut")
        _wait_until(lambda: (job / "cut/.lock").exists(), process)
        time.sleep(draw.uniform(0.0, 2.0))
        code, err = _interrupt(process, moment)
        if code == 0:
            break
        assert (code, "Traceback" in err) == (130, False), err
        interrupted += 1
        there = sum(len(set(pq.read_table(file)["image_id"].to_pylist())) for file in (job / "cut").glob("*.parquet"))
        assert there >= done
        done = there
    assert interrupted
    for folder in ("cut", "whole"):
        assert run(shlex.split(f"{line} {folder}")) == 0
    cut, whole = ({path.name: path.read_bytes() for path in (job / name).iterdir()} for name in ("cut", "whole"))
    assert cut == whole


@pytest.mark.slow
@pytest.mark.parametrize("moments", [20])
def test_an_interrupted_ablation_has_the_figures_of_an_undisturbed_one(job: Path, moments: int) -> None:
    (job / "plan.toml").write_text(PLAN.replace("max_iterations = 2", f"max_iterations = {10 * moments}"))
    draw, interrupted = random.Random(moments), 0
    for moment in range(moments):
        process = _started(COMMAND)
        _wait_until(lambda: (job / "abl/.lock").exists(), process)
        time.sleep(draw.uniform(0.0, 3.0))
        code, err = _interrupt(process, moment)
        if code == 0:
            break
        assert (code, "Traceback" in err) == (130, False), err
        interrupted += 1
    assert interrupted
    for folder in ("abl", "whole"):
        assert run(shlex.split(COMMAND.replace("--out abl", f"--out {folder}"))) == 0
    cut, whole = ((job / name / "plan.csv").read_text() for name in ("abl", "whole"))
    assert cut == whole


def _write_many(job: Path, images: int) -> None:
    """Repeat the photographs of the job, which have ids from 1, and their points under new ids."""
    points = read_json(job / "points.json")
    photographs, clicks = points["images"], points["annotations"]
    copies = range(images // len(photographs))
    points["images"] = [image | {"id": image["id"] + k * len(photographs)} for k in copies for image in photographs]
    points["annotations"] = [
        click | {"id": click["id"] + k * len(clicks), "image_id": click["image_id"] + k * len(photographs)}
        for k in copies
        for click in clicks
    ]
    write_json(job / "points.json", points)


def _wait_until(happened: Callable[[], bool], process: "subprocess.Popen[str]") -> None:
    while process.poll() is None and not happened():
        time.sleep(0.005)


def _interrupt(process: "subprocess.Popen[str]", moment: int) -> tuple[int, str]:
    process.send_signal((signal.SIGINT, signal.SIGTERM)[moment % 2])
    _, err = process.communicate(timeout=120)
    if process.returncode not in (-signal.SIGINT, -signal.SIGTERM):
        return process.returncode, err
    # Python ends by the signal, 130 to a shell as well, where Ctrl-C came while code of a text ran, as imports do, and
    # without a word where the work was done and the interpreter was closing.
    return 130 if err else 0, err


def _started(line: str) -> "subprocess.Popen[str]":
    return subprocess.Popen([*PROGRAM, *shlex.split(line)], env=child_environment(), stderr=subprocess.PIPE, text=True)


def _interrupted_after(seconds: float, moment: int, command: str, job: Path) -> tuple[int, str]:
    """Start it or go on with it, and interrupt it so many seconds after its training has begun."""
    log = job / "cut/metrics.jsonl"
    before = log.stat().st_mtime_ns if log.is_file() else 0
    process = _started(f"{COMMANDS[command]} --out cut {'--resume' if (job / 'cut').exists() else ''}")
    _wait_until(lambda: log.is_file() and log.stat().st_mtime_ns != before, process)
    time.sleep(seconds)
    return _interrupt(process, moment)


def _assert_same_end(cut: Path, whole: Path, command: str) -> None:
    labels = [path / PSEUDO_LABELS for path in (cut, whole)]
    if command == "select":
        assert labels[0].read_bytes() == labels[1].read_bytes()
    for file in (CHECKPOINT, *([MODEL] if command == "train-seg" else [])):
        states = [load_tensors(path / file)["model"] for path in (cut, whole)]
        assert states[0].keys() == states[1].keys()
        assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert _records(cut) == _records(whole)


def _records(out: Path) -> list[dict[str, Any]]:
    lines = (out / "metrics.jsonl").read_text().splitlines()
    return [{key: value for key, value in json.loads(line).items() if key != "seconds"} for line in lines]
