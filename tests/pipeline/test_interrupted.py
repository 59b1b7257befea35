"""Ctrl-C and SIGTERM at any moment of `select` and `train-seg`: with --resume the end is that of an undisturbed run."""

import json
import random
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from sapnet_pipe.stages.training.checkpoint import load_checkpoint, load_tensors
from sapnet_pipe.stages.training.run_files import CHECKPOINT, MODEL, PSEUDO_LABELS
from tests.pipeline.toy_job import SELECT, TRAIN
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
        signals = [signal.SIGINT, signal.SIGTERM]
        code, err = _interrupted_after(draw.uniform(0.0, 0.5), signals[moment % 2], command, job)
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


def _started(line: str) -> "subprocess.Popen[str]":
    return subprocess.Popen([*PROGRAM, *shlex.split(line)], env=child_environment(), stderr=subprocess.PIPE, text=True)


def _interrupted_after(seconds: float, number: signal.Signals, command: str, job: Path) -> tuple[int, str]:
    """Start it or go on with it, and interrupt it so many seconds after its training has begun."""
    log = job / "cut/metrics.jsonl"
    before = log.stat().st_mtime_ns if log.is_file() else 0
    line = f"{COMMANDS[command]} --out cut {'--resume' if (job / 'cut').exists() else ''}"
    process = _started(line)
    while process.poll() is None and (not log.is_file() or log.stat().st_mtime_ns == before):
        time.sleep(0.005)
    time.sleep(seconds)
    process.send_signal(number)
    _, err = process.communicate(timeout=120)
    return process.returncode, err


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
