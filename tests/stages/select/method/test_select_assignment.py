"""Hand-worked cases: whoever has the smaller margin gives way."""

import pytest
import torch

from sapnet_pipe.stages.select.method.mps import distinct_masks

GROUP, LEFT, RIGHT, PART = [0.0, 0, 20, 10], [0.0, 0, 10, 10], [10.0, 0, 20, 10], [2.0, 2, 4, 4]


def assign(
    bags: list[list[list[float]]],
    scores: list[list[float]],
    chosen: list[int],
    margin: list[float],
    group: list[int] | None = None,
    sizes: list[int] | None = None,
) -> tuple[list[int], list[bool]]:
    boxes = torch.tensor(bags)
    valid = torch.arange(boxes.shape[1]) < torch.tensor(sizes or [boxes.shape[1]] * len(bags))[:, None]
    groups = torch.tensor(group or [0] * len(bags))
    claims = torch.tensor(margin)
    result = distinct_masks(boxes, valid, torch.tensor(scores), torch.tensor(chosen), claims, groups, iou=0.8)
    return result[0].tolist(), result[1].tolist()


def test_the_weaker_claim_to_a_group_mask_takes_its_next_best() -> None:
    bags, scores = [[GROUP, LEFT], [GROUP, RIGHT]], [[0.6, 0.4], [0.9, 0.1]]
    assert assign(bags, scores, [0, 0], [0.2, 0.8]) == ([1, 0], [True, False])
    assert assign(bags, scores, [0, 0], [0.9, 0.8]) == ([0, 1], [False, True])


def test_of_equal_claims_the_earlier_point_keeps_the_mask() -> None:
    assert assign([[GROUP, LEFT], [GROUP, RIGHT]], [[0.6, 0.4]] * 2, [0, 0], [0.2, 0.2])[0] == [0, 1]


def test_masks_of_other_classes_and_images_may_be_the_same() -> None:
    assert assign([[GROUP, LEFT], [GROUP, RIGHT]], [[0.6, 0.4]] * 2, [0, 0], [0.2, 0.8], group=[0, 1])[0] == [0, 0]


def test_a_mask_that_overlaps_less_is_another_one() -> None:
    nearly = [0.0, 0, 20, 8.2]  # IoU 0.82 with the group
    less = [0.0, 0, 20, 7.8]  # IoU 0.78
    assert assign([[GROUP, LEFT], [nearly, RIGHT]], [[0.6, 0.4]] * 2, [0, 0], [0.2, 0.8])[0] == [1, 0]
    assert assign([[GROUP, LEFT], [less, RIGHT]], [[0.6, 0.4]] * 2, [0, 0], [0.2, 0.8])[0] == [0, 0]


def test_giving_way_goes_on_until_no_two_hold_the_same() -> None:
    # The first gives way to the second, takes the left part, which the third holds with more right, and ends at PART.
    bags = [[GROUP, LEFT, PART], [GROUP, RIGHT, PART], [LEFT, GROUP, RIGHT]]
    scores = [[0.5, 0.4, 0.1], [0.8, 0.1, 0.1], [0.7, 0.2, 0.1]]
    assert assign(bags, scores, [0, 0, 0], [0.1, 0.7, 0.5])[0] == [2, 0, 0]


def test_a_choice_that_mining_moved_comes_before_higher_scores() -> None:
    # The second point chose mask 1 although mask 0 scores higher; refused, it falls to mask 0.
    assert assign([[GROUP, LEFT], [RIGHT, GROUP]], [[0.9, 0.1], [0.6, 0.4]], [0, 1], [0.8, -0.2])[0] == [0, 0]


def test_a_bag_that_holds_nothing_else_keeps_its_first_choice() -> None:
    alone = float("nan")
    bags, scores = [[GROUP, LEFT], [GROUP, GROUP]], [[0.6, 0.4], [0.5, 0.0]]
    assert assign(bags, scores, [0, 0], [0.3, alone], sizes=[2, 1]) == ([1, 0], [True, False])
    assert assign([[GROUP, GROUP]] * 2, scores, [0, 0], [alone, alone], sizes=[1, 1]) == ([0, 0], [False, False])


@pytest.mark.parametrize("points", [0, 1])
def test_few_points_are_left_alone(points: int) -> None:
    boxes, valid = torch.rand(points, 3, 4), torch.ones(points, 3, dtype=torch.bool)
    none = torch.zeros(points, dtype=torch.long)
    chosen, moved = distinct_masks(boxes, valid, torch.rand(points, 3), none, torch.rand(points), none)
    assert chosen.tolist() == [0] * points
    assert not moved.any()


def test_the_order_of_points_and_masks_changes_nothing() -> None:
    generator = torch.Generator().manual_seed(0)
    corner = torch.randint(0, 3, (12, 5, 2), generator=generator).float()
    boxes = torch.cat([corner, corner + 4], dim=2)
    scores, margin = torch.rand(12, 5, generator=generator), torch.rand(12, generator=generator)
    valid, group = torch.rand(12, 5, generator=generator) > 0.2, torch.arange(12) % 2
    valid[:, 0] = True
    chosen = scores.masked_fill(~valid, -1).argmax(dim=1)
    plain, _ = distinct_masks(boxes, valid, scores, chosen, margin, group)
    assert not torch.equal(plain, chosen)
    rows, masks = torch.randperm(12, generator=generator), torch.randperm(5, generator=generator)
    back = torch.argsort(masks)
    mixed, _ = distinct_masks(
        boxes[rows][:, masks], valid[rows][:, masks], scores[rows][:, masks], back[chosen[rows]], margin[rows],
        group[rows],
    )  # fmt: skip
    assert torch.equal(masks[mixed], plain[rows])
