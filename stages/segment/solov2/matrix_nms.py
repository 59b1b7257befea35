"""Suppressing twice-found objects: point NMS on the category grid before any mask is made, Matrix NMS (SOLOv2, section
3.3) and greedy mask NMS on the masks."""

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

from sapnet_pipe.stages.segment.config import NmsKernel

_BLOCK = 128


def iou_with_better(masks: Tensor, classes: Tensor) -> Tensor:
    """Overlap of every mask with the better ones of its class.

    This product is most of the time of the suppression, so it is made class by class, and of each class only the upper
    triangle, block by block. The counts are whole numbers: the order of the additions does not matter.

    Args:
        masks: (N, P) bool, by falling score.
        classes: (N,) class indices.
    Returns: (N, N) float32 [i, j]: intersection over union where i < j and the classes are equal, else 0. Two empty
        masks are the same mask, so 1.
    """
    order = classes.argsort(stable=True)  # within a class still by falling score
    overlap = torch.zeros(len(masks), len(masks), device=masks.device)
    start = 0
    for count in torch.unique_consecutive(classes[order], return_counts=True)[1].tolist():
        flat, end = masks[order[start : start + count]].float(), start + count
        for row in range(0, count, _BLOCK):
            overlap[start + row : min(start + row + _BLOCK, end), start + row : end] = (
                flat[row : row + _BLOCK] @ flat[row:].T
            )
        start = end
    area, grouped = overlap.diagonal(), classes[order]
    union = area[:, None] + area - overlap
    iou = torch.where(union > 0, overlap / union.clamp(min=1), 1.0)
    iou = (iou * (grouped[:, None] == grouped)).triu(diagonal=1)
    place = order.argsort()
    return iou[place[:, None], place]


def matrix_nms(
    masks: Tensor, classes: Tensor, scores: Tensor, *, kernel: NmsKernel = "gaussian", sigma: float = 2.0
) -> Tensor:
    """Lower each score by its mask's overlap with better ones of its class, all at once.

    Where a better mask is itself suppressed its vote counts less. With identical masks the linear kernel would divide
    zero by zero; here a copy ends at 0, never at NaN.

    Args:
        masks: (N, P) bool, by falling score.
        classes: (N,) class indices.
        scores: (N,) float32, falling.
        sigma: Of the gaussian kernel.
    Returns: (N,) the lowered scores.
    """
    if not len(scores):
        return scores
    iou = iou_with_better(masks, classes)
    shield = iou.amax(dim=0)[:, None]  # how far i is itself suppressed
    if kernel == "gaussian":
        decay = torch.exp(sigma * (shield**2 - iou**2))
    else:
        decay = (1 - iou) / (1 - shield).clamp(min=1e-6)
    return scores * decay.amin(dim=0)


def mask_nms(masks: Tensor, classes: Tensor, *, threshold: float = 0.5) -> Tensor:
    """Greedy: drop a mask if one kept before it, of its class, overlaps it by more than `threshold`.

    Args:
        masks: (N, P) bool, by falling score.
        classes: (N,) class indices.
    Returns: (N,) bool, True where kept.
    """
    rivals = (iou_with_better(masks, classes) > threshold).cpu()
    keep = torch.ones(len(classes), dtype=torch.bool)
    for index in range(len(classes)):
        if keep[index]:
            keep &= ~rivals[index]
    return keep.to(classes.device)


def point_nms(scores: Tensor) -> Tensor:
    """Keep a score if none of its upper, left and upper-left neighbours is higher; else 0. Ties stay.

    Args:
        scores: (B, K, G, G), not negative.
    Returns: (B, K, G, G).
    """
    highest = max_pool2d(scores, 2, stride=1, padding=1)[:, :, :-1, :-1]
    return scores * (highest == scores)
