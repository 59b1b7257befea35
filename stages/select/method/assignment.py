"""Two points of one class are two objects, so they may not share a mask: the one with the weaker claim takes another.

N bags of a batch, M masks per bag (padded).
"""

import torch
from torch import Tensor

from sapnet_pipe.stages.select.method.boxes import box_iou


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
