"""Areas and overlaps of boxes, elementwise with broadcasting. Boxes are (..., 4) float32 XYXY."""

import torch
from torch import Tensor


def box_area(boxes: Tensor) -> Tensor:
    """(..., 4) to (...): width times height; 0 where a side is negative."""
    sides = (boxes[..., 2:] - boxes[..., :2]).clamp(min=0)
    return sides[..., 0] * sides[..., 1]


def box_overlap(a: Tensor, b: Tensor) -> Tensor:
    """Shared area of boxes that broadcast against each other."""
    sides = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0)
    return sides[..., 0] * sides[..., 1]


def box_iou(a: Tensor, b: Tensor) -> Tensor:
    """IoU of boxes that broadcast against each other, (..., 4) and (..., 4) to (...); 0 for two empty boxes."""
    overlap = box_overlap(a, b)
    union = box_area(a) + box_area(b) - overlap
    return overlap / union.clamp(min=1e-6)


def points_inside(points_xy: Tensor, boxes: Tensor) -> Tensor:
    """Whether points (..., 2) lie strictly inside boxes (..., 4), broadcasting; a point on the border does not."""
    return ((points_xy > boxes[..., :2]) & (points_xy < boxes[..., 2:])).all(dim=-1)
