"""Trainings killed by SIGKILL: resumed, they end as undisturbed ones; of several processes none blames another."""

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from torch.multiprocessing import ProcessExitedException, ProcessRaisedException

from sapnet_pipe.pipeline.cli import run
from sapnet_pipe.pipeline.machine_faults import machine_fault
from tests.pipeline.toy_job import SELECT, TRAIN
from tests.places import child_environment

PROGRAM = [sys.executable, "-c", "from sapnet_pipe.pipeline.cli import main; main()"]
COMMAND = SELECT.replace("train.max_iterations=2", "train.max_iterations=60") + " --set train.checkpoint_every=5"
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "sapnet_pipe"]


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


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_that_is_killed_is_no_fault_of_the_others(job: Path, rank: int) -> None:
    command = TRAIN.replace("train.max_iterations=2", "train.max_iterations=300") + " --labels truth.json --out new"
    process = subprocess.Popen(
        [*TORCHRUN, *shlex.split(command)], env=child_environment(), stderr=subprocess.PIPE, text=True
    )
    while not (job / "new/metrics.jsonl").is_file() and process.poll() is None:
        time.sleep(0.01)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    ranked = {
        Path(f"/proc/{child}/environ").read_bytes().partition(b"\0RANK=")[2][:1]: int(child) for child in children
    }
    os.kill(ranked[str(rank).encode()], signal.SIGKILL)
    _, said = process.communicate(timeout=120)
    assert "fault of sapnet-pipe" not in said
    ours = [line for line in said.splitlines() if line.startswith("sapnet-pipe: ")]
    assert len(ours) == 1
    assert "another one of this training has ended" in ours[0] or "interrupted" in ours[0]  # torchrun ends it too


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("[/gloo/gloo/transport/tcp/pair.cc:545] Read error [127.0.0.1]:3276: Connection reset by peer"),
        RuntimeError("NCCL error: ncclRemoteError: a network error or a remote process exiting prematurely"),
        ProcessExitedException("process 1 terminated with signal SIGKILL", 1, 0, -9, "SIGKILL"),
        ProcessRaisedException("-- Process 0: RuntimeError: [/gloo/transport/tcp/pair.cc:5] Connection closed", 0, 0),
    ],
)
def test_a_lost_process_is_told_from_a_fault_of_ours(error: Exception) -> None:
    assert "with --resume" in str(machine_fault(error))
    assert machine_fault(RuntimeError("something else")) is None
