"""The golden vectors again, images joined to one padded batch, with junk as padding; run as it is and compiled."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import pad

from sapnet_pipe.stages.select.method.bms import mine_boxes
from sapnet_pipe.stages.select.method.boxes import box_area
from sapnet_pipe.stages.select.method.mps import mask_of_box
from sapnet_pipe.stages.select.method.pdg import distance_score, neighbour_distance, same_class_neighbours
from sapnet_pipe.stages.select.method.pnpg import background, part_boxes, random_boxes, scaled_boxes
from sapnet_pipe.stages.select.method.psm_prm import (
    best_mask,
    negative_loss,
    of_class,
    prm_loss,
    prm_scores,
    psm_loss,
    psm_scores,
)
from tests.stages.select.method.golden_cases import cases, close

Way = Callable[[Callable[..., Any]], Callable[..., Any]]


@pytest.fixture(params=["as it is", "compiled"])
def way(request: pytest.FixtureRequest) -> Way:
    """How a function is run; compiled means as one graph, which a look at a value on the host would break."""
    if request.param == "as it is":
        return lambda function: function
    torch._dynamo.reset()
    return lambda function: torch.compile(function, fullgraph=True, dynamic=True, backend="eager")


def with_junk(values: Tensor, masks: int, fill: float = 50.0) -> Tensor:
    """(N, M, ...) to (N, masks, ...)."""
    junk = torch.full((len(values), masks - values.shape[1], *values.shape[2:]), fill, dtype=values.dtype)
    return torch.cat([values, junk], dim=1)


def validity(count: int, masks: int, of: int) -> Tensor:
    return (torch.arange(of) < masks).expand(count, of)


def joined_neighbours(found: list[dict[str, Any]]) -> tuple[Tensor, Tensor]:
    parts = [same_class_neighbours(case["points"], case["labels"]) for case in found]
    most = 2 + max(valid.shape[1] for _, valid in parts)
    xy = [pad(points, (0, 0, 0, most - points.shape[1]), value=5.0) for points, _ in parts]
    return torch.cat(xy), torch.cat([pad(valid, (0, most - valid.shape[1])) for _, valid in parts])


def test_guidance(way: Way) -> None:
    found = list(cases("pdg"))
    points, boxes = (torch.cat([case[name] for case in found]) for name in ("points", "boxes"))
    score = way(lambda *inputs: distance_score(*inputs, power=0.5, exponent=1 / 64))
    scores = score(points, with_junk(boxes, 8), *joined_neighbours(found))
    close(scores[:, :6], torch.cat([case["S_dis"] for case in found]), 2e-6)


def test_scaled_positives(way: Way) -> None:
    found = list(cases("ppg"))
    bases = [case["boxes"][torch.arange(len(case["boxes"])), case["base_index"]] for case in found]
    chosen = [case["S_raw"][torch.arange(len(case["boxes"])), case["base_index"]] for case in found]
    sizes = torch.cat([case["img_hw"].float().expand(len(case["boxes"]), 2) for case in found])

    def scaled(points: Tensor, base: Tensor, xy: Tensor, known: Tensor, size: Tensor) -> tuple[Tensor, Tensor]:
        distance, inside = neighbour_distance(points, base[:, None], xy, known, power=0.5)
        return scaled_boxes(base, distance[:, 0], inside[:, 0], size), inside[:, 0]

    points = torch.cat([case["points"] for case in found])
    ours, inside = way(scaled)(points, torch.cat(bases), *joined_neighbours(found), sizes)
    shared = (torch.cat(chosen) == 1) == (inside == 0)  # else the release overlooks a neighbour that coincides
    limit = sizes.flip(-1).repeat(1, 2)[:, None]
    wanted = torch.minimum(torch.cat([case["positives"][:, 6:] for case in found]), limit)
    close(ours[shared], wanted[shared], 5e-5)
    assert int(shared.sum()) > 20


def test_mining_where_one_of_the_first_three_is_larger(way: Way) -> None:
    found = list(cases("bms"))
    boxes = torch.cat([with_junk(case["boxes"][:, :3], 26) for case in found])
    selected, wanted = (torch.cat([case[name] for case in found]) for name in ("selected", "mined"))
    larger = box_area(boxes[:, :3]) > box_area(selected)[:, None]
    rows = (larger.sum(dim=1) == 1) & (selected[:, None] != boxes[:, :3]).any(dim=2).all(dim=1)
    rows &= ~torch.isclose(boxes[:, :3], selected[:, None], rtol=1e-5, atol=1e-4).all(dim=2).any(dim=1)
    scores = with_junk(torch.tensor([0.3, 0.2, 0.1]).expand(len(boxes), 3), 26, fill=9.0)
    mine = way(lambda *inputs: mine_boxes(*inputs, tolerance=1.999))
    mined = mine(selected, boxes, scores, validity(len(boxes), 3, 26))
    close(mined.box[rows], wanted[rows], 1e-6)
    assert torch.equal(mined.bms_rule == 0, (mined.box == selected).all(dim=1))


def test_negatives(way: Way) -> None:
    found = list(cases("npg"))
    most = 1 + max(len(case["boxes"]) for case in found)
    draws = max(int(case["num_random"]) for case in found)
    rand = torch.stack([pad(case["rand"], (0, draws - case["rand"].shape[1])) for case in found])
    sizes = torch.stack([case["img_hw"].float() for case in found])
    boxes = torch.stack([with_junk(with_junk(case["boxes"], 8)[None], most)[0] for case in found])
    valid = torch.stack([pad(validity(len(c["boxes"]), 6, 8), (0, 0, 0, most - len(c["boxes"]))) for c in found])
    keep = way(lambda u, size, *positives: background(random_boxes(u, size), *positives))(rand, sizes, boxes, valid)
    for case, flags in zip(found, keep, strict=True):
        count = int(case["num_random"])
        assert torch.equal(flags[:count], case["neg_weight"][:count])
    selected = [case["boxes"][torch.arange(len(case["boxes"])), case["scores"].argmax(dim=1)] for case in found]
    parts, large = way(part_boxes)(torch.cat(selected), torch.zeros(sum(map(len, selected)), 0, 4))
    close(parts[large], torch.cat([case["neg_boxes"][int(case["num_random"]) :] for case in found]), 1e-5)


def test_losses_and_gradients(way: Way) -> None:
    runs = {0: way(lambda c, i, v, *more: psm_loss(psm_scores(c, i, v), more[0], v, more[1])),
            1: way(lambda c, i, v, *more: prm_loss(prm_scores(c, i, v), more[0], v, more[1]))}  # fmt: skip
    of_negatives = way(negative_loss)
    for case in cases("losses"):
        masks = case["cls_logits"].shape[1]
        cls_logits, ins_logits = (with_junk(case[k], masks + 2).requires_grad_() for k in ("cls_logits", "ins_logits"))
        valid = with_junk(case["valid"][..., 0], masks + 2, fill=0).bool()
        loss = 0.25 * runs[int(case["stage"])](cls_logits, ins_logits, valid, case["labels"], case["label_weights"])
        loss.backward()
        close(loss.detach(), case["loss_mil"], 1e-5)
        for leaf, name in ((cls_logits, "grad_cls"), (ins_logits, "grad_ins")):
            assert leaf.grad is not None
            close(leaf.grad[:, :masks], case[name], 1e-5)
            assert not leaf.grad[:, masks:].any()
        if "neg_loss" in case:
            keep, weight = pad(case["neg_weight"], (0, 3)), case["label_weights"].mean()
            negative = of_negatives(pad(case["neg_cls_logits"], (0, 0, 0, 3), value=50.0), keep, len(case["labels"]))
            close(0.75 * negative * weight, case["neg_loss"], 1e-5)


def test_scores_and_choices(way: Way) -> None:
    def choose(cls: Tensor, ins: Tensor, valid: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        own = of_class(psm_scores(cls, ins, valid), labels)
        return own, best_mask(own, valid)

    run = way(choose)
    for case in cases("selection"):
        masks = case["cls_logits"].shape[1]
        logits = (with_junk(case[name], masks + 2) for name in ("cls_logits", "ins_logits"))
        own, index = run(*logits, with_junk(case["valid"][..., 0], masks + 2, fill=0).bool(), case["labels"])
        close(own[:, :masks], case["dynamic_weight"], 1e-6)
        assert torch.equal(index, case["index"])


def test_the_mask_of_a_box(way: Way) -> None:
    found = list(cases("mask_map"))
    boxes, refined, index = (torch.cat([case[name] for case in found]) for name in ("boxes", "refined", "index"))
    first_wins = with_junk(-torch.arange(6.0).expand(len(boxes), 6), 9)
    chosen = way(mask_of_box)(with_junk(boxes, 9), validity(len(boxes), 6, 9), refined, first_wins)
    assert torch.equal(chosen, index)
