import torch

from sapnet_pipe.stages.select.method.boxes import box_iou
from sapnet_pipe.stages.select.method.mps import mask_of_box, mps_alternates
from tests.stages.select.method.golden_cases import cases, close


def test_the_mask_of_a_box_is_the_release_s() -> None:
    for case in cases("mask_map"):
        boxes, refined = case["boxes"], case["refined"]
        close(box_iou(boxes, refined[:, None]), case["iou"], 1e-6)
        first_wins = -torch.arange(boxes.shape[1]).float().expand(len(boxes), -1)
        chosen = mask_of_box(boxes, torch.ones(boxes.shape[:2], dtype=torch.bool), refined, first_wins)
        assert torch.equal(chosen, case["index"])


def test_of_two_masks_with_one_box_the_higher_score_wins() -> None:
    boxes = torch.tensor([[[0.0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 9, 9]]])
    valid = torch.ones(1, 3, dtype=torch.bool)
    assert mask_of_box(boxes, valid, boxes[:, 0], torch.tensor([[0.1, 0.3, 0.9]])).item() == 1
    assert mask_of_box(boxes, valid & torch.tensor([True, False, True]), boxes[:, 0], torch.ones(1, 3)).item() == 0


def test_alternates_are_the_highest_medium_and_lowest_of_the_others() -> None:
    # The release takes the ranks 1, 3 and 5 of all six whatever was chosen; the paper's are outside the chosen one.
    scores = torch.tensor([[0.1, 0.6, 0.5, 0.4, 0.3, 0.2]])
    everything = torch.ones(1, 6, dtype=torch.bool)
    assert mps_alternates(scores, everything, torch.tensor([1])).tolist() == [[2, 4, 0]]
    assert mps_alternates(scores, everything, torch.tensor([4])).tolist() == [[1, 3, 0]]


def test_small_bags_have_fewer_alternates() -> None:
    scores = torch.tensor([[0.4, 0.3, 0.2, 0.1]])
    chosen = torch.tensor([0])
    wanted = {1: [-1, -1, -1], 2: [1, -1, -1], 3: [1, -1, 2], 4: [1, 2, 3]}
    for size, ranks in wanted.items():
        valid = torch.arange(4)[None] < size
        assert mps_alternates(scores, valid, chosen).tolist() == [ranks]


def test_no_bags_choose_nothing() -> None:
    boxes, valid, scores = torch.zeros(0, 6, 4), torch.zeros(0, 6, dtype=torch.bool), torch.zeros(0, 6)
    assert mask_of_box(boxes, valid, torch.zeros(0, 4), scores).shape == (0,)
    assert mps_alternates(scores, valid, torch.zeros(0, dtype=torch.long)).shape == (0, 3)
