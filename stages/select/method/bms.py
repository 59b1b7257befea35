"""Box mining strategy (BMS): a part grows towards the larger proposals that agree with it (Algorithm 2)."""

from typing import NamedTuple

import torch
from torch import Tensor

from sapnet_pipe.stages.select.method.boxes import box_area, box_iou


class Mined(NamedTuple):
    """Boxes (N, 4) float32 after mining, and the rule (N,) int64 that moved each: 1 or 2, 0 where it stayed."""

    box: Tensor
    bms_rule: Tensor


def mine_boxes(
    selected: Tensor,
    proposals: Tensor,
    scores: Tensor,
    valid: Tensor,
    *,
    top_k: int = 3,
    t_min1: float = 0.6,
    t_min2: float = 0.3,
    tolerance: float = 0.0,
) -> Mined:
    """Merge each selected box with the best larger one of its k highest-scored proposals.

    Rule 1: of the larger proposals with IoU > t_min1 the one of highest IoU v gives (proposal + v * selected) /
    (1 + v). Rule 2, if there is none: of the larger ones that contain the selected box with IoU > t_min2 the one of
    highest v gives (v * proposal + selected) / (1 + v). If there is none either, the selected box stays.

    Args:
        selected: (N, 4) float32. proposals: (N, M, 4). scores: (N, M). valid: (N, M) bool, False on padding.
        tolerance: Pixels by which a proposal may miss a side of the box it contains.
    Returns: boxes and rules. Equal scores and equal overlaps: the first proposal wins.
    """
    ranked = scores.masked_fill(~valid, -torch.inf).sort(dim=1, descending=True, stable=True).indices[:, :top_k]
    top = proposals.gather(1, ranked[..., None].expand(-1, -1, 4))  # (N, k, 4)
    inner = selected[:, None]
    iou = box_iou(top, inner)
    larger = valid.gather(1, ranked) & (box_area(top) > box_area(inner))
    reaches = (top[..., :2] <= inner[..., :2] + tolerance) & (top[..., 2:] >= inner[..., 2:] - tolerance)
    contains = reaches.all(dim=-1)
    overlapping = larger & (iou > t_min1)
    around = larger & (iou > t_min2) & contains
    merged = _best(overlapping, iou, top)
    grown = _best(around, iou, top)
    first, second = overlapping.any(1), around.any(1)
    box = torch.where(second[:, None], (grown[1] * grown[0] + selected) / (1 + grown[1]), selected)
    box = torch.where(first[:, None], (merged[0] + merged[1] * selected) / (1 + merged[1]), box)
    return Mined(box, torch.where(first, 1, torch.where(second, 2, 0)))


def _best(candidates: Tensor, iou: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """The candidate of highest IoU: its box (N, 4) and IoU (N, 1); an arbitrary one where there is no candidate."""
    index = torch.where(candidates, iou, -1.0).argmax(dim=1, keepdim=True)  # (N, 1)
    return boxes.gather(1, index[..., None].expand(-1, -1, 4)).squeeze(1), iou.gather(1, index)
