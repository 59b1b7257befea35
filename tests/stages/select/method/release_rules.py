"""What the authors' release does otherwise than the paper, in the words of the vectors' notes, object by object.

Ours does not follow these rules. They are here so that the recorded numbers that depend on them are compared all the
same: with our functions wherever both agree, with these in between.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from sapnet_pipe.stages.select.method.boxes import box_area, box_iou
from sapnet_pipe.stages.select.method.pdg import guidance, neighbour_distance
from sapnet_pipe.stages.select.method.pnpg import scaled_boxes
from sapnet_pipe.stages.select.method.psm_prm import instance_scores, of_class

LOOKED_AT = 3  # proposals, the first in storage order


class Mined(NamedTuple):
    """(4,) the box; of each proposal looked at the branch taken, its IoU (NaN if not asked) and the box before."""

    box: Tensor
    branch: list[int]
    iou: list[float]
    before: list[Tensor]


def mine(selected: Tensor, proposals: Tensor) -> Mined:
    """Box mining of one object (4,) among its proposals (M, 4): areas and best overlap go stale as the box moves."""
    box, area, best = selected, box_area(selected), torch.tensor(0.0)
    branches, overlaps, before = [], [], []
    for proposal in proposals[:LOOKED_AT]:
        before.append(box)
        if not area < box_area(proposal):
            branches.append(0)
            overlaps.append(torch.nan)
            continue
        iou = box_iou(box, proposal)
        contains = (proposal[:2] - 2 < box[:2]).all() and (proposal[2:] + 2 > box[2:]).all()
        overlaps.append(float(iou))
        if iou > 0.6 and iou > best:
            box, branch = (proposal + iou * box) / (1 + iou), 1
        elif iou > 0.3 and iou > best and contains:
            box, branch = (iou * proposal + box) / (1 + iou), 2
        else:
            branch = 3
        branches.append(branch)
        if branch < 3:
            best, area = iou, box_area(proposal)
    return Mined(box, branches, overlaps, before)


class Selected(NamedTuple):
    """(N, ...) of a stage's selection: class scores, both scores multiplied, choice, its box, the box before mining."""

    cls_score: Tensor
    weight: Tensor
    choice: Tensor
    raw: Tensor
    before: Tensor


def select(
    cls_logits: Tensor, ins_logits: Tensor, valid: Tensor, labels: Tensor, boxes: Tensor, image_size: Tensor
) -> Selected:
    """The selection of both stages: softmax classes, and the box drawn to the origin by w / (w + 1e-8).

    Args:
        image_size: (N, 2) height and width.
    """
    cls = of_class(cls_logits.softmax(dim=-1) * valid[..., None], labels)
    weight = cls * of_class(instance_scores(ins_logits, valid), labels)
    index = weight.argmax(dim=1)
    rows = torch.arange(len(boxes))
    raw, chosen = boxes[rows, index], weight[rows, index][:, None]
    shrunk = raw * (chosen / (chosen + 1e-8))
    limit = image_size.flip(-1).repeat(1, 2)
    return Selected(cls, weight, index, raw, torch.minimum(shrunk.clamp(min=0), limit))


def positives(refined: Tensor, bag: Tensor, points: Tensor, xy: Tensor, known: Tensor) -> Tensor:
    """(N, 26, 4): the bag, and twenty boxes scaled about the bag box that lies within a pixel of the refined one, else
    about the last; they are clipped at 0 alone."""
    near = ((bag - 1 < refined[:, None]) & (refined[:, None] < bag + 1)).all(dim=2)
    base_index = torch.where(near.any(dim=1), near.to(torch.int64).argmax(dim=1), bag.shape[1] - 1)
    base = bag[torch.arange(len(bag)), base_index]
    distance, _ = neighbour_distance(points, base[:, None], xy, known, power=0.5)
    inside = (guidance(distance[:, 0]) < 1).long()  # a neighbour that coincides is overlooked
    endless = torch.full((len(bag), 2), torch.inf)
    return torch.cat([bag, scaled_boxes(base, distance[:, 0], inside, endless)], dim=1).clamp(min=0)
