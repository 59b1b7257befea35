"""explain.parquet and the labels' reasons."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from sapnet_pipe.data.labels.explanations import SCHEMA
from sapnet_pipe.stages.select.config import AssignmentConfig
from sapnet_pipe.stages.select.method.boxes import box_iou
from sapnet_pipe.stages.select.run import run
from sapnet_pipe.stages.select.selection.inference import choose
from tests.stages.select.toy_model import batch, selector, table_of
from tests.stages.select.toy_store import toy_config, toy_store


def explained(folder: Path, **changes: Any) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows of explain.parquet, and the labels."""
    store, images, _ = toy_store(folder / "toy")
    run(store, images, folder / "out", toy_config(**changes), explain=True, quiet=True)
    table = pq.read_table(folder / "out" / "explain.parquet")
    assert table.schema.equals(SCHEMA)
    return table.to_pylist(), json.loads((folder / "out" / "pseudo_labels.json").read_text())["annotations"]


def test_every_point_is_explained_by_the_scores_of_every_mask_at_every_step(tmp_path: Path) -> None:
    rows, labels = explained(tmp_path, pdg__exponent=2.0)
    assert [row["point_id"] for row in rows] == [label["id"] for label in labels] == list(range(1, 13))
    for row, label in zip(rows, labels, strict=True):
        chosen, second = row["bag_index"], row["runner_up"]
        assert {len(row[name]) for name in ("sam_score", "psm_score", "pdg_score", "prm_score")} == {3}
        assert max(row["pdg_score"]) == row["pdg_score"][row["psm_index"]]
        assert all(after <= before + 1e-7 for before, after in zip(row["psm_score"], row["pdg_score"], strict=True))
        assert row["prm_score"][second] == max(s for i, s in enumerate(row["prm_score"]) if i != chosen)
        assert row["margin"] == pytest.approx(row["prm_score"][chosen] - row["prm_score"][second], abs=1e-7)
        assert row["psm_rule"] in (0, 1, 2)
        assert row["prm_rule"] in (0, 1, 2)
        assert 0 <= row["psm_box"][0] < row["psm_box"][2] <= 64
        assert not row["reassigned"]
        for name in ("bag_index", "runner_up"):
            assert row[name] == label[name]
        for name, key in (("margin", "margin"), ("score", "score"), ("confidence", "mask_confidence")):
            assert row[name] == pytest.approx(label[key], rel=1e-6)
        assert label["psm_score"] == pytest.approx(row["pdg_score"][chosen], rel=1e-6)
        assert label["prm_score"] == pytest.approx(row["prm_score"][chosen], rel=1e-6)
        assert label["source"] == "sapnet"


@pytest.mark.parametrize(
    ("method", "missing"),
    [
        ("single-mil", {"completeness", "prm_score", "prm_rule", "prm_box"}),
        (
            "sam-top1",
            {"completeness", "prm_score", "prm_rule", "prm_box"}
            | {"psm_score", "pdg_score", "psm_index", "psm_rule", "psm_box"},
        ),
    ],
)
def test_steps_that_a_method_has_not_are_null(tmp_path: Path, method: str, missing: set[str]) -> None:
    rows, labels = explained(tmp_path, method=method)
    assert len(rows) == 12
    assert {name for name in SCHEMA.names if rows[0][name] is None} == missing
    assert {label["source"] for label in labels} == {method}
    if method == "sam-top1":
        for row in rows:
            assert row["score"] == row["confidence"] == max(row["sam_score"])
            assert row["runner_up"] == int(np.argsort(row["sam_score"])[-2])


def test_a_selector_that_asks_how_complete_masks_are_says_so_of_each(tmp_path: Path) -> None:
    rows, _ = explained(tmp_path, method="sapnet-plus")
    assert all(len(row["completeness"]) == 3 and min(row["completeness"]) > 0 for row in rows)
    assert max(max(row["completeness"]) for row in rows) < 1
    assert len({share for row in rows for share in row["completeness"]}) > 12


def test_without_explain_no_file_is_written(tmp_path: Path) -> None:
    store, images, _ = toy_store(tmp_path / "toy")
    summary = run(store, images, tmp_path / "out", toy_config(method="largest"), quiet=True)
    assert summary.explanations is None
    assert not (tmp_path / "out" / "explain.parquet").exists()


def test_confidence_is_the_bag_scores_times_how_well_the_mask_fits_the_mined_box() -> None:
    model, given = selector(), batch()
    with torch.no_grad():
        output = model(given)
        chosen = choose(given, output, table_of(given), AssignmentConfig(enabled=False))
    boxes = given.boxes[torch.arange(3), torch.from_numpy(chosen.bag_index)]
    wanted = (
        output.class_scores.sum(1).clamp(0, 1)
        * output.prm.class_scores.sum(1).clamp(0, 1)
        * box_iou(boxes, output.prm.box)
    )
    assert np.allclose(chosen.confidence, wanted)
    assert ((chosen.confidence >= 0) & (chosen.confidence <= 1)).all()


def test_a_bag_of_one_has_no_runner_up() -> None:
    model, given = selector(), batch()
    valid = given.valid.clone()
    valid[2, 1:] = False
    given = given._replace(valid=valid, filled=valid.flatten().nonzero()[:, 0])
    with torch.no_grad():
        chosen = choose(given, model(given), table_of(given), AssignmentConfig(enabled=False))
    assert chosen.runner_up[2] == -1
    assert np.isnan(chosen.margin[2])
    assert chosen.alternates[2].tolist() == [-1, -1, -1]


@pytest.mark.parametrize("twins", [False, True])
def test_the_order_of_masks_never_changes_the_choice_not_even_of_twins(twins: bool) -> None:
    model, given = selector(), batch()
    sam_score = torch.tensor([[0.5, 0.6, 0.7, 0.8]]).expand(3, 4)
    if twins:  # of one box, told apart by SAM's score alone
        given.boxes[:, 1:] = given.boxes[:, :1]
    order = torch.tensor([2, 0, 3, 1])
    mixed = given._replace(boxes=given.boxes[:, order])
    for assignment in (AssignmentConfig(), AssignmentConfig(enabled=True)):
        with torch.no_grad():
            plain = choose(given, model(given), table_of(given, sam_score), assignment)
            other = choose(mixed, model(mixed), table_of(mixed, sam_score[:, order]), assignment)
        for name in ("bag_index", "runner_up", "alternates"):
            there = getattr(other, name)
            assert np.array_equal(np.where(there < 0, -1, order.numpy()[there]), getattr(plain, name)), name
        for name in ("score", "margin", "confidence", "prm_box"):
            assert np.allclose(getattr(other, name), getattr(plain, name), atol=1e-5, equal_nan=True), name
        assert not twins or assignment.enabled or (plain.bag_index == 3).all()


def test_two_points_of_one_class_never_share_a_mask_once_that_is_forbidden() -> None:
    model, given = selector(), batch()
    given.boxes[1] = given.boxes[0]
    with torch.no_grad():
        output = model(given)
        free = choose(given, output, table_of(given), AssignmentConfig(enabled=False))
        bound = choose(given, output, table_of(given), AssignmentConfig(enabled=True))
    assert free.bag_index[0] == free.bag_index[1]
    assert bound.bag_index[0] != bound.bag_index[1]
    assert bound.reassigned.tolist().count(True) == 1
    assert bound.bag_index[2] == free.bag_index[2]
