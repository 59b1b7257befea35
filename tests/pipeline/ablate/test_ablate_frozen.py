"""Screening an ablation on frozen features, and how far it agrees with full training."""

import shlex
from pathlib import Path

import pytest

from sapnet_pipe.data.files import read_json
from sapnet_pipe.pipeline.ablate.screening import agreement, agreement_line
from sapnet_pipe.pipeline.cli import run
from tests.pipeline.ablate.ablate_toy import COMMAND, PLAN
from tests.pipeline.one_line import check_message


@pytest.fixture
def work(job: Path) -> Path:
    short = PLAN.replace("[[variants]]", "[select.frozen]\nmax_iterations = 3\n\n[[variants]]", 1)
    (job / "plan.toml").write_text(short)
    return job


def folders(job: Path) -> set[str]:
    return {path.name.rpartition("-")[0] for path in (job / "abl/runs").iterdir()}


def test_screening_trains_one_backbone_in_full_and_the_heads_on_its_features(
    work: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    capfd.readouterr()
    assert run(shlex.split(COMMAND.removesuffix(" --quiet") + " --frozen")) == 0
    lines = capfd.readouterr().out.splitlines()
    assert lines[0].startswith("the backbone starts from random weights")
    assert lines[1].startswith("[1/1] backbone, seed 0: mIoU ")
    assert lines[2].startswith("plan-frozen: 3 variants, 6 runs, 4 trainings; 1 at once")
    heads = {f"select-{name}-seed{seed}" for name in ("single-mil", "sapnet") for seed in (0, 1)}
    assert folders(work) == {"select-backbone-seed0"} | heads
    assert len(list((work / "abl/features").iterdir())) == 1
    assert (work / "abl/plan-frozen.md").is_file()
    assert not (work / "abl/plan.md").exists()


def test_a_screening_after_full_training_takes_its_backbone_and_tells_how_far_they_agree(
    work: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(shlex.split(COMMAND)) == 0
    before = folders(work)
    assert run(shlex.split(COMMAND + " --frozen")) == 0
    assert "select-backbone-seed0" not in folders(work)
    assert len(list((work / "abl/runs").iterdir())) == len(before) + 4
    capfd.readouterr()
    assert run(shlex.split("report --run abl")) == 0
    said = capfd.readouterr().out
    assert "Note: plan: 2 variants under --frozen and in full" in said
    assert {path.name for path in (work / "abl").glob("*.md")} == {"plan.md", "plan-frozen.md"}


def test_a_screening_of_fewer_variants_repeats_no_training(work: Path) -> None:
    assert run(shlex.split(COMMAND + " --frozen")) == 0
    finished = {path: path.stat().st_mtime_ns for path in (work / "abl/runs").glob("*/manifest.json")}
    assert run(shlex.split(COMMAND + " --frozen --only SAPNet")) == 0
    assert {path: path.stat().st_mtime_ns for path in (work / "abl/runs").glob("*/manifest.json")} == finished


def test_select_takes_the_backbone_of_another_run(work: Path) -> None:
    line = (
        "select --bags bags --images images --preset demo --quiet --set image.short_side=64 --set image.long_side=64 "
        "--set head.channels=16 --set frozen.max_iterations=3 --set frozen.weights=run --out heads --frozen"
    )
    assert run(shlex.split(line)) == 0
    manifest = read_json(work / "heads/manifest.json")
    assert manifest["result"]["training"]["iterations"] == 3
    assert (work / "bags.features").is_dir()


def test_a_backbone_that_is_not_there_is_named(work: Path, capfd: pytest.CaptureFixture[str]) -> None:
    line = "select --bags bags --images images --preset demo --quiet --set frozen.weights=nowhere --out heads --frozen"
    assert run(shlex.split(line)) == 2
    check_message(capfd.readouterr().err, "nowhere/backbone.json * does not exist")


def rows(*means: float, sem: float = 0.01) -> dict:
    return {"variants": {str(k): {"miou_mean": mean, "miou_sem": sem} for k, mean in enumerate(means)}}


def test_one_order_agrees_wholly_and_the_reverse_not_at_all() -> None:
    full = rows(0.6, 0.7, 0.8)
    same, reverse = agreement(full, rows(0.1, 0.2, 0.3)), agreement(full, rows(0.3, 0.2, 0.1))
    assert (same["spearman"], same["kendall"], same["clear_agreed"]) == (1, 1, 3)
    assert (reverse["spearman"], reverse["kendall"], reverse["clear_agreed"]) == (-1, -1, 0)


def test_pairs_within_their_errors_are_not_clear() -> None:
    found = agreement(rows(0.60, 0.61, 0.80), rows(0.2, 0.1, 0.3))
    assert (found["clear_pairs"], found["clear_agreed"]) == (2, 2)
    assert found["kendall"] == pytest.approx(1 / 3, abs=1e-4)
    assert agreement_line("plan", found) == (
        "plan: 3 variants under --frozen and in full: spearman +0.50, kendall +0.33; "
        "of 2 pairs that differ clearly 2 are in the same order."
    )


def test_variants_of_one_selector_count_once() -> None:
    full, frozen = rows(0.6, 0.7, 0.7), rows(0.2, 0.1, 0.1)
    for name, folder in zip(full["variants"], ("a", "b", "b"), strict=True):
        full["variants"][name]["select_runs"] = [folder]
    found = agreement(full, frozen)
    assert (found["variants"], found["clear_pairs"], found["clear_agreed"]) == (2, 1, 0)


def test_equal_means_share_their_ranks_and_a_flat_table_has_no_order() -> None:
    assert agreement(rows(0.6, 0.6, 0.8), rows(0.1, 0.1, 0.9))["spearman"] == 1
    flat = agreement(rows(0.6, 0.7), rows(0.5, 0.5))
    assert (flat["spearman"], flat["kendall"]) == (None, None)
