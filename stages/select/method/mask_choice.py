"""From a box back to a mask of the bag, and the masks beside it. N bags, M masks per bag (padded)."""

import torch
from torch import Tensor

from sapnet_pipe.stages.select.method.boxes import box_iou

ALTERNATES = 3


def mask_of_box(boxes: Tensor, valid: Tensor, chosen_box: Tensor, scores: Tensor) -> Tensor:
    """The mask of each bag whose box overlaps `chosen_box` most; of equals the one of higher score, then the first.

    Args:
        boxes: (N, M, 4). valid: (N, M) bool. chosen_box: (N, 4). scores: (N, M).
    Returns: (N,) int64.
    """
    iou = box_iou(boxes, chosen_box[:, None]).masked_fill(~valid, -1.0)
    best = iou == iou.max(dim=1, keepdim=True).values
    return scores.masked_fill(~best, -torch.inf).argmax(dim=1)


def alternate_masks(scores: Tensor, valid: Tensor, chosen: Tensor) -> Tensor:
    """The highest, medium and lowest scored masks outside the chosen one (multi-mask supervision, MPS).

    Args:
        scores: (N, M). valid: (N, M) bool. chosen: (N,) int64.
    Returns: (N, 3) int64, -1 where the bag has no more masks: of two others the highest and the lowest, of one
        the highest, of none nothing.
    """
    others = valid.clone()
    others[torch.arange(len(chosen), device=chosen.device), chosen] = False
    count = others.sum(dim=1, keepdim=True)
    order = scores.masked_fill(~others, -torch.inf).sort(dim=1, descending=True, stable=True).indices
    none = torch.full_like(count, -1)
    ranks = torch.cat(
        [
            torch.where(count > 0, 0, none),
            torch.where(count > 2, count // 2, none),
            torch.where(count > 1, count - 1, none),
        ],
        dim=1,
    )
    return torch.where(ranks >= 0, order.gather(1, ranks.clamp(min=0)), -1)
