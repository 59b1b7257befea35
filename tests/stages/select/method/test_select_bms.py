"""Hand-worked cases of the paper's Algorithm 2; the release merges a selected box with itself and is no reference."""

import pytest
import torch

from sapnet_pipe.stages.select.method.bms import mine_boxes
from sapnet_pipe.stages.select.method.boxes import box_area
from tests.stages.select.method.golden_cases import cases, close

SELECTED = [0.0, 0, 10, 10]
TALL = [0.0, 0, 10, 12]  # IoU 100/120 = 0.8333
TALLER = [0.0, 0, 10, 16]  # IoU 0.625
HUGE = [0.0, 0, 10, 25]  # IoU 0.4, contains
SHIFTED = [1.0, 0, 26, 10]  # larger, IoU 90/260 = 0.346, does not contain
FAR = [0.0, 0, 10, 40]  # IoU 0.25
SMALL = [0.0, 0, 10, 9]


def mine(proposals: list[list[float]], scores: list[float] | None = None, **options: float) -> list[float]:
    boxes = torch.tensor([proposals])
    ranks = torch.tensor([scores or [1 - 0.1 * i for i in range(len(proposals))]])
    valid = torch.ones(1, len(proposals), dtype=torch.bool)
    return mine_boxes(torch.tensor([SELECTED]), boxes, ranks, valid, **options).box[0].tolist()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("proposals", "wanted"),
    [
        pytest.param([SELECTED, TALL, SMALL], [0, 0, 10, (12 + 10 / 1.2) / (1 + 1 / 1.2)], id="rule A: one larger"),
        pytest.param([SELECTED, TALLER, TALL], [0, 0, 10, (12 + 10 / 1.2) / (1 + 1 / 1.2)], id="rule A: highest IoU"),
        pytest.param([TALL, TALLER, SELECTED], [0, 0, 10, (12 + 10 / 1.2) / (1 + 1 / 1.2)], id="rule A: any order"),
        pytest.param([SELECTED, HUGE, SMALL], [0, 0, 10, (25 * 0.4 + 10) / 1.4], id="rule B: around it"),
        pytest.param([HUGE, SELECTED, TALLER], [0, 0, 10, (16 + 0.625 * 10) / 1.625], id="rule A before rule B"),
        pytest.param([SELECTED, SHIFTED, SMALL], SELECTED, id="rule B needs containment"),
        pytest.param([SELECTED, FAR, SMALL], SELECTED, id="rule B needs IoU over 0.3"),
        pytest.param([SELECTED, SMALL, SMALL], SELECTED, id="never smaller"),
        pytest.param([SELECTED], SELECTED, id="a bag of one"),
    ],
)
def test_algorithm_2_hand_worked(proposals: list[list[float]], wanted: list[float]) -> None:
    assert mine(proposals) == pytest.approx(wanted, abs=1e-5)


def test_only_the_k_highest_scored_proposals_are_mined() -> None:
    proposals = [TALL, SMALL, SMALL, SELECTED]
    assert mine(proposals, [0.1, 0.9, 0.8, 0.7]) == SELECTED
    assert mine(proposals, [0.1, 0.9, 0.8, 0.7], top_k=4) != SELECTED
    assert mine(proposals, [0.75, 0.9, 0.8, 0.7]) != SELECTED


def test_an_iou_exactly_at_a_threshold_is_not_enough() -> None:
    at_a = [0.0, 0, 10, 10 / 0.6]
    assert mine([at_a], t_min1=0.6) == pytest.approx([0, 0, 10, (10 + 10) / 1.6], abs=1e-4)  # rule B took it
    assert mine([[0.0, 0, 10, 10 / 0.3]], t_min2=0.3001) == SELECTED


def test_a_tolerance_lets_a_proposal_miss_a_side_by_some_pixels() -> None:
    nearly = [1.0, -5, 11, 20]
    assert mine([nearly]) == SELECTED
    assert mine([nearly], tolerance=1.0) != SELECTED


def test_padding_is_never_mined_and_no_bags_are_fine() -> None:
    boxes = torch.tensor([[SELECTED, TALL]])
    valid = torch.tensor([[True, False]])
    assert mine_boxes(torch.tensor([SELECTED]), boxes, torch.ones(1, 2), valid).box[0].tolist() == SELECTED
    empty = mine_boxes(torch.zeros(0, 4), torch.zeros(0, 6, 4), torch.zeros(0, 6), torch.zeros(0, 6).bool())
    assert empty.box.shape == (0, 4)


def test_one_larger_proposal_is_merged_as_in_the_release() -> None:
    # Where a single one of the first three is larger, the release's stale area and best IoU cannot show.
    compared = 0
    for case in cases("bms"):
        boxes, selected = case["boxes"][:, :3], case["selected"]
        larger = box_area(boxes) > box_area(selected)[:, None]
        rows = (larger.sum(dim=1) == 1) & (selected[:, None] != boxes).any(dim=2).all(dim=1)
        rows &= ~torch.isclose(boxes, selected[:, None], rtol=1e-5, atol=1e-4).all(dim=2).any(dim=1)
        scores = torch.tensor([0.3, 0.2, 0.1]).expand(len(boxes), 3)
        mined = mine_boxes(selected, boxes, scores, torch.ones_like(larger), tolerance=1.999).box  # "under 2 px"
        close(mined[rows], case["mined"][rows], 1e-6)
        compared += int(rows.sum())
    assert compared > 10
