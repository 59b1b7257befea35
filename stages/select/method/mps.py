"""From a box back to masks: the pseudo mask, its alternates (MPS), and, beyond the paper, no mask for two points.

N bags of a batch, M masks per bag (padded).
"""

import torch
from torch import Tensor

from sapnet_pipe.stages.select.method.boxes import box_iou


def mask_of_box(boxes: Tensor, valid: Tensor, chosen_box: Tensor, scores: Tensor) -> Tensor:
    """The mask of each bag whose box overlaps `chosen_box` most; of equals the one of higher score, then the first.

    Args:
        boxes: (N, M, 4). valid: (N, M) bool. chosen_box: (N, 4). scores: (N, M).
    Returns: (N,) int64.
    """
    iou = box_iou(boxes, chosen_box[:, None]).masked_fill(~valid, -1.0)
    best = iou == iou.max(dim=1, keepdim=True).values
    return scores.masked_fill(~best, -torch.inf).argmax(dim=1)


def mps_alternates(scores: Tensor, valid: Tensor, chosen: Tensor) -> Tensor:
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


def distinct_masks(
    boxes: Tensor, valid: Tensor, scores: Tensor, chosen: Tensor, margin: Tensor, group: Tensor, *, iou: float = 0.9
) -> tuple[Tensor, Tensor]:
    """Choose again so that no two points of a group hold the same mask.

    Masks of two bags are the same if the IoU of their boxes is at least `iou`. A point wants its first choice, then the
    other masks of its bag by falling score. Whoever has the smaller margin (of equals, the later point) gives way:
    every point gets what the points with larger margins leave it. One whose bag holds nothing else keeps its first
    choice.

    Args:
        boxes: (N, M, 4). valid: (N, M) bool. scores: (N, M). chosen: (N,) int64, the first choices.
        margin: (N,) how far each is ahead of the next mask; NaN in a bag of one, which cannot give way.
        group: (N,) int64, equal for points of one class in one image.
    Returns: (N,) int64, and (N,) bool, whether it is another one than before.
    """
    wish = scores.masked_fill(~valid, -torch.inf).scatter(1, chosen[:, None], torch.inf)
    wishes = wish.sort(dim=1, descending=True, stable=True).indices  # (N, M)
    count, place = valid.sum(dim=1), torch.zeros_like(chosen)
    claim = margin.nan_to_num(nan=torch.inf)
    index = torch.arange(len(chosen), device=chosen.device)
    stronger = (claim[None] > claim[:, None]) | ((claim[None] == claim[:, None]) & (index[None] < index[:, None]))
    rivals = (group[:, None] == group[None]) & stronger  # (N, N): the column has the better claim
    while True:
        out = place >= count  # nothing left to wish for
        current = wishes.gather(1, place.clamp(max=wishes.shape[1] - 1)[:, None])
        held = boxes.gather(1, current[..., None].expand(-1, 1, 4))[:, 0]
        same = box_iou(held[:, None], held[None]) >= iou
        refused = (same & rivals & ~out[None]).any(dim=1) & ~out
        if not bool(refused.any()):
            break
        place = place + refused
    result = torch.where(out, chosen, current[:, 0])
    return result, result != chosen
