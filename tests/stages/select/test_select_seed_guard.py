import json
from pathlib import Path

import pytest
import torch
from toy_store import toy_config, toy_store

from stages.select.class_accuracy import ClassAccuracy
from stages.select.config import GuardConfig
from stages.select.run import run
from stages.select.seed_guard import AtChanceError, SeedGuard, accuracy_wanted, judged_at, seed_of_attempt


def accuracy_of(predicted: list[int], wanted: list[int], classes: int) -> ClassAccuracy:
    accuracy = ClassAccuracy(classes)
    accuracy.update(torch.tensor(predicted), torch.tensor(wanted))
    return accuracy


def test_a_constant_answer_is_at_chance_however_unequal_the_classes_are() -> None:
    wanted = [0] * 98 + [1, 2]
    assert accuracy_of([0] * 100, wanted, 3).balanced() == pytest.approx(1 / 3)
    assert accuracy_of(wanted, wanted, 3).balanced() == 1.0
    assert ClassAccuracy(3).balanced() == 0.0


def test_classes_not_seen_lately_do_not_count() -> None:
    assert accuracy_of([0, 1], [0, 1], 80).balanced() == 1.0


def test_the_wanted_accuracy_lies_between_chance_and_one() -> None:
    assert accuracy_wanted(8, 1.5) == pytest.approx(0.1875)
    assert accuracy_wanted(2, 1.5) == pytest.approx(0.75)
    assert accuracy_wanted(2, 9.0) == pytest.approx(0.75)
    assert accuracy_wanted(1, 1.5) == 0.5


def test_the_guard_judges_once_and_never_without_restarts_left() -> None:
    stuck = accuracy_of([0] * 8, list(range(8)), 8)
    guard = SeedGuard(GuardConfig(), stuck, 8, iteration=10, restarts_left=1)
    guard(9, {})
    with pytest.raises(AtChanceError):
        guard(10, {})
    guard(11, {})
    SeedGuard(GuardConfig(), stuck, 8, iteration=10, restarts_left=0)(10, {})
    SeedGuard(GuardConfig(enabled=False), stuck, 8, iteration=10, restarts_left=1)(10, {})
    assert judged_at(0.25, 1000) == 250
    assert judged_at(40, 1000) == 40
    assert judged_at(0.25, 8) > 8


def test_a_training_at_chance_is_restarted_a_bounded_number_of_times_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store, images, _ = toy_store(tmp_path / "toy")
    config = toy_config(train__lr=1e-9, guard__after=2, guard__max_restarts=2, seed=5)
    summary = run(store, images, tmp_path / "out", config, quiet=True)
    assert caplog.text.count("starting anew from another seed") == 2
    assert summary.training is not None
    assert summary.training["at_chance"]
    assert [r["seed"] for r in summary.training["restarts"]] == [5, seed_of_attempt(5, 1)]
    lines = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    assert [line["event"] for line in lines if "event" in line] == ["seed_guard", "seed_guard", "selection"]
    assert lines[-1]["at_chance"] == 1
    resumed = run(store, images, tmp_path / "out", config, resume=True, quiet=True)
    assert resumed.training is not None
    assert resumed.training["restarts"] == summary.training["restarts"]


def test_a_single_class_is_never_restarted_for_being_right(tmp_path: Path) -> None:
    store, images, _ = toy_store(tmp_path / "toy", classes=1)
    config = toy_config(train__max_iterations=30, guard__after=25)
    summary = run(store, images, tmp_path / "out", config, quiet=True)
    assert summary.training is not None
    assert summary.training["chance"] == 1.0
    assert not summary.training["at_chance"]
    assert summary.training["restarts"] == []
