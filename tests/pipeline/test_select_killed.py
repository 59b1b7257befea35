"""`select` killed by SIGKILL and resumed ends with the labels of an undisturbed run."""

import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

from sapnet_pipe.pipeline.cli import run
from tests.pipeline.toy_job import SELECT
from tests.places import child_environment

PROGRAM = [sys.executable, "-c", "from sapnet_pipe.pipeline.cli import main; main()"]
COMMAND = SELECT.replace("train.max_iterations=2", "train.max_iterations=60") + " --set train.checkpoint_every=5"


def test_a_killed_select_resumes_to_the_same_labels(job: Path) -> None:
    environment = child_environment()
    process = subprocess.Popen([*PROGRAM, *shlex.split(f"{COMMAND} --out killed")], env=environment)
    while not (job / "killed/checkpoints/last.pt").is_file() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (job / "killed/pseudo_labels.json").exists()
    assert run(shlex.split(f"{COMMAND} --out killed --resume")) == 0
    assert run(shlex.split(f"{COMMAND} --out whole")) == 0
    labels = [(job / name / "pseudo_labels.json").read_bytes() for name in ("killed", "whole")]
    assert labels[0] == labels[1]
