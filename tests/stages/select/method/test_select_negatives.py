import torch

from sapnet_pipe.stages.select.config import NegativesConfig
from sapnet_pipe.stages.select.method.boxes import box_iou
from sapnet_pipe.stages.select.method.pnpg import background, pad_by_image, part_boxes, random_boxes
from tests.stages.select.method.golden_cases import cases, close


def test_random_boxes_flags_and_parts_equal_the_release() -> None:
    # The release asks only the bag for overlap; that is what is passed as positives here.
    for case in cases("npg"):
        count, boxes = int(case["num_random"]), case["boxes"]
        candidates = random_boxes(case["rand"][None], case["img_hw"].float()[None])
        close(candidates[0], case["neg_boxes"][:count], 1e-5)
        keep = background(candidates, boxes[None], torch.ones(1, *boxes.shape[:2]).bool())
        assert torch.equal(keep[0], case["neg_weight"][:count])
        selected = boxes[torch.arange(len(boxes)), case["scores"].argmax(dim=1)]
        parts, large = part_boxes(selected, torch.zeros(len(boxes), 0, 4))
        assert large.nonzero()[:, 0].tolist() == case["part_of"].tolist()
        close(parts[large], case["neg_boxes"][count:], 1e-5)


def test_a_background_box_touches_no_positive_too_much() -> None:
    positives = torch.tensor([[[[0.0, 0, 10, 10], [50, 50, 60, 60]]]])
    candidates = torch.tensor([[[0.0, 0, 10, 3.1], [0, 0, 10, 2.9], [50, 50, 60, 60], [100, 100, 110, 110]]])
    everything = background(candidates, positives, torch.ones(1, 1, 2, dtype=torch.bool))
    assert everything.tolist() == [[False, True, False, True]]
    padded = background(candidates, positives, torch.tensor([[[True, False]]]))
    assert padded.tolist() == [[False, True, True, True]]


def test_the_shortcut_over_hulls_changes_nothing() -> None:
    torch.manual_seed(0)
    centre = torch.rand(2, 9, 1, 2) * 300
    half = torch.rand(2, 9, 26, 2) * 80 + 1
    positives, valid = torch.cat([centre - half, centre + half], dim=-1), torch.rand(2, 9, 26) > 0.2
    candidates = random_boxes(torch.rand(2, 4, 400), torch.full((2, 2), 300.0))
    iou = box_iou(candidates[:, :, None, None], positives[:, None])  # (I, R, N, G)
    plain = ~((iou >= 0.3) & valid[:, None]).flatten(2).any(dim=2)
    assert torch.equal(background(candidates, positives, valid), plain)
    assert 0.02 < plain.float().mean() < 0.98


def test_an_image_without_positives_is_all_background() -> None:
    candidates = random_boxes(torch.rand(1, 4, 7), torch.tensor([[100.0, 50.0]]))
    assert background(candidates, torch.zeros(1, 0, 6, 4), torch.zeros(1, 0, 6, dtype=torch.bool)).all()
    padded = torch.zeros(1, 2, 6, 4), torch.zeros(1, 2, 6, dtype=torch.bool)
    assert background(candidates, *padded).all()


def test_parts_lie_in_the_box_and_hold_less_than_the_threshold() -> None:
    torch.manual_seed(0)
    selected = torch.tensor([[10.0, 20, 110, 220], [0, 0, 30, 30]])
    parts, keep = part_boxes(selected, torch.rand(2, 50, 4), t_neg2=0.5)
    assert (parts[0, :, :2] >= selected[0, :2]).all()
    assert (parts[0, :, 2:] <= selected[0, 2:] + 1e-4).all()
    area = (parts[0, :, 2] - parts[0, :, 0]) * (parts[0, :, 3] - parts[0, :, 1])
    assert torch.equal(keep[0], area / 20000 < 0.5)
    assert keep[0, 0]
    assert not keep[1].any()  # 30 x 30 is not over 64 x 64


def test_t_neg2_decides_which_of_the_default_parts_are_negatives() -> None:
    # The centred half box holds 1/4 whatever the threshold; random parts between 0.3 and 0.5 of the box tell the two.
    torch.manual_seed(0)
    config, selected = NegativesConfig(), torch.tensor([[0.0, 0, 100, 100]]).expand(20, 4)
    draws = torch.rand(20, config.parts - 1, 4)
    kept = {share: part_boxes(selected, draws, t_neg2=share)[1] for share in (0.3, 0.5)}
    assert kept[0.3][:, 0].all()
    assert kept[0.3].sum() < kept[0.5].sum() < kept[0.5].numel()


def test_padding_by_image_keeps_bags_apart() -> None:
    values = torch.arange(3.0)[:, None]
    padded = pad_by_image(values, torch.tensor([0, 1, 1]), torch.tensor([0, 0, 1]), (2, 2))
    assert padded[..., 0].tolist() == [[0, 0], [1, 2]]
