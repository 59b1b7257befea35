"""Two processes that torchrun starts do what one does."""

import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from sapnet_pipe.stages.training.checkpoint import load_checkpoint
from sapnet_pipe.stages.training.distributed import World, current_world, loss_normalizer
from sapnet_pipe.stages.training.run_files import CHECKPOINT
from tests.places import ROOT, child_environment
from tests.stages.select.toy_store import toy_store

TWO = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def start(arguments: list[str], expect: int = 0) -> str:
    environment = child_environment()
    done = subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode == 0) == (expect == 0), done.stderr
    return done.stdout + done.stderr


def train(toy: Path, out: Path, *changes: str, two: bool) -> list[dict[str, float]]:
    """Records of metrics.jsonl."""
    out.mkdir()
    start([*(TWO if two else []), "-m", "tests.stages.select.train_toy", str(toy), str(out), *changes])
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_two_processes_train_select_and_write_as_one_does(tmp_path: Path) -> None:
    toy_store(tmp_path / "toy", images=7)
    changes = ["train__max_iterations=20", "train__batch_size=4", 'train__optimizer="sgd"', "train__lr=0.02",
               "negatives__parts=3", "image__max_points=1"]  # fmt: skip
    one, two = (train(tmp_path / "toy", tmp_path / name, *changes, two=name == "two") for name in ("one", "two"))
    assert len(one) == len(two) == 11
    for a, b in zip(one, two, strict=True):
        for name in a.keys() - {"seconds", "event", "source"}:
            assert b[name] == pytest.approx(a[name], abs=1e-5), name
    weights = [load_checkpoint(tmp_path / name / CHECKPOINT).model for name in ("one", "two")]
    for name, wanted in weights[0].items():
        assert torch.allclose(weights[1][name], wanted, rtol=0, atol=1e-5), name
    first, second = (json.loads((tmp_path / n / "pseudo_labels.json").read_text()) for n in ("one", "two"))
    for wanted, label in zip(first["annotations"], second["annotations"], strict=True):
        assert label["bag_index"] == wanted["bag_index"]
        assert label["score"] == pytest.approx(wanted["score"], abs=1e-4)
    tables = [pq.read_table(tmp_path / name / "explain.parquet") for name in ("one", "two")]
    assert tables[0]["point_id"] == tables[1]["point_id"]
    assert {path.name for path in (tmp_path / "two").iterdir()} == {path.name for path in (tmp_path / "one").iterdir()}


@pytest.mark.slow
def test_two_processes_restart_together_and_fall_back_together(tmp_path: Path) -> None:
    toy_store(tmp_path / "toy", images=7)
    changes = ["train__lr=1e-9", "guard__after=2", "guard__max_restarts=1", "guard__fallback=true", "seed=8"]
    records = train(tmp_path / "toy", tmp_path / "out", *changes, two=True)
    assert [record["event"] for record in records if "event" in record] == ["seed_guard", "selection"]
    labels = json.loads((tmp_path / "out" / "pseudo_labels.json").read_text())
    assert labels["info"]["fallback"] == "sam-top1"
    assert len(labels["annotations"]) == 14


@pytest.mark.slow
def test_the_command_line_runs_under_torchrun_and_the_first_process_speaks(tmp_path: Path) -> None:
    toy_store(tmp_path / "toy", images=4)
    settings = ["train.max_iterations=4", "train.batch_size=2", "image.short_side=64", "image.long_side=64",
                "backbone.width=16", "head.channels=16", "train.log_every=1", "negatives.random_boxes=10"]  # fmt: skip
    command = ["-m", "sapnet_pipe.pipeline.cli", "select", "--bags", str(tmp_path / "toy" / "bags"), "--images",
               str(tmp_path / "toy" / "images"), "--out", str(tmp_path / "run"), "--preset", "demo", "--json",
               *(word for setting in settings for word in ("--set", setting))]  # fmt: skip
    said = start([*TWO, *command])
    assert said.count("Pseudo labels written to") == 1
    assert json.loads((tmp_path / "run" / "manifest.json").read_text())["status"] == "complete"
    before = (tmp_path / "run" / "pseudo_labels.json").read_bytes()
    start([*TWO, *command, "--resume"])
    assert (tmp_path / "run" / "pseudo_labels.json").read_bytes() == before
    assert "already holds a select run" in start([*TWO, *command], expect=1)


def test_shares_cover_everything_once() -> None:
    for total in (1, 4, 7):
        for count in (1, 2, 3):
            bounds = [World(rank, count).bounds(total) for rank in range(count)]
            assert [place for begin, end in bounds for place in range(begin, end)] == list(range(total))


def test_a_process_started_alone_is_the_first_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "3")  # of some other launcher
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert current_world() == World(0, 1)
    assert loss_normalizer(torch.tensor(6)) == 6
    assert loss_normalizer(torch.tensor(0)) == 1
