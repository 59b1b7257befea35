"""Two processes that torchrun starts train the segmenter as one does."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from sapnet_pipe.stages.training.checkpoint import load_checkpoint
from sapnet_pipe.stages.training.run_files import CHECKPOINT
from tests.places import child_environment
from tests.stages.segment.segment_scenes import write_scenes


@pytest.mark.slow
def test_two_processes_train_the_segmenter_as_one_does(tmp_path: Path) -> None:
    write_scenes(tmp_path / "scenes", [3, 0, 1, 4, 2], alternates=True)
    logs, weights = [], []
    for name, launcher in (
        ("one", []),
        ("two", ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]),
    ):
        out = tmp_path / name
        out.mkdir()
        command = [
            sys.executable,
            *launcher,
            "-m",
            "tests.stages.segment.train_scenes",
            str(tmp_path / "scenes"),
            str(out),
        ]
        done = subprocess.run(command, env=child_environment(), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        logs.append([json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()])
        weights.append(load_checkpoint(out / CHECKPOINT).model)
        assert (out / "model_final.pth").is_file()
    assert len(logs[0]) == len(logs[1]) == 8
    for a, b in zip(*logs, strict=True):
        for key in ("loss_ins", "loss_cate", "loss", "grad_norm"):
            assert b[key] == pytest.approx(a[key], rel=1e-5, abs=1e-5), key
    for key, wanted in weights[0].items():
        assert torch.allclose(weights[1][key], wanted, rtol=0, atol=1e-5), key
