"""Scores of masks and bags in multiple-instance learning. N bags, M masks per bag (padded), C classes."""

import torch
from torch import Tensor


def instance_scores(ins_logits: Tensor, valid: Tensor) -> Tensor:
    """Softmax over the valid masks of a bag, per class.

    Args:
        ins_logits: (N, M, C) float32. valid: (N, M) bool, False on padding.
    Returns: (N, M, C), sums to 1 over M; 0 on padding and for bags without a valid mask.
    """
    lowest = torch.finfo(ins_logits.dtype).min
    masked = ins_logits.masked_fill(~valid[..., None], lowest)
    return masked.softmax(dim=1) * valid[..., None]


def psm_scores(cls_logits: Tensor, ins_logits: Tensor, valid: Tensor, s_dis: Tensor | None = None) -> Tensor:
    """S = softmax over classes * softmax over the bag * S_dis.

    Args:
        cls_logits, ins_logits: (N, M, C) float32, the background last. valid: (N, M) bool.
        s_dis: (N, M), perhaps with other factors in it, or None.
    Returns: (N, M, C) in [0, 1], 0 on padding.
    """
    scores = cls_logits.softmax(dim=-1) * instance_scores(ins_logits, valid)
    return scores if s_dis is None else scores * s_dis[..., None]


def prm_scores(cls_logits: Tensor, ins_logits: Tensor, valid: Tensor, factor: Tensor | None = None) -> Tensor:
    """S = sigmoid of the class * softmax over the bag; shapes as `psm_scores`, without a background class.

    Args:
        factor: (N, M), what else the scores are multiplied by, or None.
    """
    scores = cls_logits.sigmoid() * instance_scores(ins_logits, valid)
    return scores if factor is None else scores * factor[..., None]


def of_class(scores: Tensor, class_index: Tensor) -> Tensor:
    """Each bag's column of its own class: (N, M, C) and (N,) int64 to (N, M)."""
    return scores.gather(2, class_index[:, None, None].expand(-1, scores.shape[1], 1)).squeeze(2)


def best_mask(scores: Tensor, valid: Tensor) -> Tensor:
    """Index (N,) of the highest-scored valid mask, the first of equals; scores (N, M)."""
    return scores.masked_fill(~valid, -1.0).argmax(dim=1)
