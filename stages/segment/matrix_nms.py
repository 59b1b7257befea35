"""Suppressing masks of the same object: Matrix NMS (SOLOv2, section 3.3) and greedy mask NMS."""

from typing import Literal

import torch
from torch import Tensor

NmsKernel = Literal["gaussian", "linear"]


def mask_iou(masks: Tensor) -> Tensor:
    """(N, P) bool -> (N, N) float32 intersection over union; two empty masks are the same mask, so 1."""
    flat = masks.float()
    overlap = flat @ flat.T
    area = overlap.diagonal()
    union = area[:, None] + area - overlap
    return torch.where(union > 0, overlap / union.clamp(min=1), 1.0)


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
    iou = (mask_iou(masks) * (classes[:, None] == classes)).triu(diagonal=1)  # [i, j]: i is better than j
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
    rivals = ((mask_iou(masks) > threshold) & (classes[:, None] == classes)).triu(diagonal=1).cpu()
    keep = torch.ones(len(classes), dtype=torch.bool)
    for index in range(len(classes)):
        if keep[index]:
            keep &= ~rivals[index]
    return keep.to(classes.device)
