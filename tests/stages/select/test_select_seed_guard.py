import json
from pathlib import Path

import pytest
import torch

from sapnet_pipe.stages.select.config import GuardConfig
from sapnet_pipe.stages.select.run import run
from sapnet_pipe.stages.select.seed_guard import (
    AtChanceError,
    ClassAccuracy,
    LearningSign,
    ObjectAccuracy,
    SeedGuard,
    accuracy_wanted,
    judged_at,
    seed_of_attempt,
)
from tests.stages.select.toy_store import toy_config, toy_store


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


def test_objects_are_compared_with_the_negatives_of_their_own_image_and_class() -> None:
    accuracy = ObjectAccuracy()
    assert accuracy.value() == 0.5
    negatives, images = torch.tensor([[0.1, 0.9], [0.6, 0.0], [0.9, 0.9]]), torch.tensor([0, 0, 1])
    accuracy.update(torch.tensor([0.5, 0.9]), torch.tensor([0, 1]), torch.tensor([0, 1]), negatives, images)
    assert accuracy.value() == pytest.approx((1 + 0 + 0.5) / 3)  # above 0.1, below 0.6; the other equals 0.9
    for _ in range(500):
        accuracy.update(torch.tensor([1.0]), torch.tensor([0]), torch.tensor([0]), negatives, images)
    assert accuracy.value() > 0.99


def test_the_guard_judges_once_and_never_without_restarts_left() -> None:
    stuck = LearningSign("bag accuracy", accuracy_of([0] * 8, list(range(8)), 8).balanced, 1 / 8, 0.1875)
    guard = SeedGuard(GuardConfig(), stuck, iteration=10, restarts_left=1)
    guard(9, {})
    with pytest.raises(AtChanceError):
        guard(10, {})
    guard(11, {})
    SeedGuard(GuardConfig(), stuck, iteration=10, restarts_left=0)(10, {})
    SeedGuard(GuardConfig(enabled=False), stuck, iteration=10, restarts_left=1)(10, {})
    assert judged_at(0.25, 1000) == 250
    assert judged_at(40, 1000) == 40
    assert judged_at(0.25, 8) > 8


def test_a_training_at_chance_is_restarted_a_bounded_number_of_times_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store, images, _ = toy_store(tmp_path / "toy")
    config = toy_config(train__lr=1e-9, guard__after=2, guard__max_restarts=2, seed=8)
    summary = run(store, images, tmp_path / "out", config, quiet=True)
    assert caplog.text.count("starting anew from another seed") == 2
    assert summary.training is not None
    assert summary.training["at_chance"]
    assert [r["seed"] for r in summary.training["restarts"]] == [8, seed_of_attempt(8, 1)]
    lines = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    assert [line["event"] for line in lines if "event" in line] == ["seed_guard", "seed_guard", "selection"]
    assert lines[-1]["at_chance"] == 1
    resumed = run(store, images, tmp_path / "out", config, resume=True, quiet=True)
    assert resumed.training is not None
    assert resumed.training["restarts"] == summary.training["restarts"]


def test_what_learnt_nothing_gives_the_labels_of_sam_and_says_so(tmp_path: Path) -> None:
    store, images, truth = toy_store(tmp_path / "toy")
    stuck = {"train__lr": 1e-9, "guard__after": 2, "guard__max_restarts": 0, "guard__fallback": True}
    summary = run(store, images, tmp_path / "out", toy_config(**stuck), truth=truth, quiet=True)
    plain = run(store, images, tmp_path / "plain", toy_config(method="sam-top1"), truth=truth, quiet=True)
    assert summary.fallback is not None
    assert (summary.method, summary.source) == ("sapnet", "sam-top1")
    assert "bag accuracy" in summary.fallback
    labels, wanted = (json.loads((tmp_path / n / "pseudo_labels.json").read_text()) for n in ("out", "plain"))
    assert labels["annotations"] == wanted["annotations"]
    assert {label["source"] for label in labels["annotations"]} == {"sam-top1"}
    assert labels["info"]["method"] == "sapnet"
    assert labels["info"]["fallback"] == "sam-top1"
    assert summary.quality is not None
    assert plain.quality is not None
    assert summary.quality["chosen"] == plain.quality["chosen"]
    kept = run(store, images, tmp_path / "kept", toy_config(**{**stuck, "guard__fallback": False}), quiet=True)
    assert kept.fallback is None
    assert kept.training is not None
    assert kept.training["at_chance"]


def test_a_single_class_is_judged_by_objects_against_negatives(tmp_path: Path) -> None:
    store, images, _ = toy_store(tmp_path / "toy", classes=1)
    config = toy_config(train__max_iterations=60, guard__after=55, negatives__random_boxes=50, guard__fallback=True)
    summary = run(store, images, tmp_path / "out", config, quiet=True)
    assert summary.training is not None
    assert summary.training["bag_accuracy"] == 1.0
    assert summary.training["chance"] == 0.5
    assert summary.training["object_accuracy"] > 0.75
    assert summary.fallback is None
    stuck = toy_config(train__lr=1e-9, guard__after=2, guard__max_restarts=1, guard__fallback=True)
    summary = run(store, images, tmp_path / "stuck", stuck, quiet=True)
    assert summary.training is not None
    assert len(summary.training["restarts"]) == 1
    assert summary.fallback is not None
    assert "object accuracy" in summary.fallback


@pytest.mark.parametrize("changes", [{"method": "single-mil"}, {"negatives__enabled": False}])
def test_one_class_without_negatives_is_never_trained(tmp_path: Path, changes: dict[str, object]) -> None:
    store, images, _ = toy_store(tmp_path / "toy", classes=1)
    summary = run(store, images, tmp_path / "out", toy_config(**changes), quiet=True)
    assert summary.training is None
    assert summary.fallback is not None
    assert "one class" in summary.fallback
    assert not (tmp_path / "out" / "checkpoints").exists()


@pytest.mark.slow
def test_where_half_of_the_seeds_fail_no_run_ends_at_chance_without_saying_so(tmp_path: Path) -> None:
    store, images, _ = toy_store(tmp_path / "toy", images=8)
    spoilt = toy_config(
        train__lr=0.07, train__max_iterations=60, train__batch_size=4, train__warmup_iterations=0, train__log_every=10,
        guard__after=30, guard__max_restarts=0, guard__fallback=True,
    )  # fmt: skip
    failed = 0
    for seed in range(6):
        out = tmp_path / str(seed)
        summary = run(store, images, out, spoilt.model_copy(update={"seed": seed}), quiet=True)
        *windows, last = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
        info = json.loads((out / "pseudo_labels.json").read_text())["info"]
        said = summary.fallback is not None
        failed += said
        assert said == bool(last["at_chance"]) == (info.get("fallback") == "sam-top1") == (last["source"] == "sam-top1")
        if not said:  # then the last 20 steps, of equally many bags of either class, do show learning
            assert sum(window["bag_accuracy"] for window in windows[-2:]) / 2 > 0.6
    assert 0 < failed < 6
