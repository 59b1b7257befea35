"""The two bag losses and the loss of the negatives. N bags, M masks per bag (padded), C classes, R negatives."""

import torch
import torch.nn.functional as F
from torch import Tensor


def psm_loss(scores: Tensor, class_index: Tensor, valid: Tensor, weights: Tensor | None = None) -> Tensor:
    """Binary cross-entropy of the bag scores to the one-hot class, averaged over bags.

    Args:
        scores: (N, M, C) from `psm_scores`, C with the background.
        class_index: (N,) int64. valid: (N, M) bool. weights: (N,) or None for 1.
    Returns: scalar; 0 for no bags.
    """
    bag = scores.sum(dim=1).clamp(0, 1)
    target = F.one_hot(class_index, scores.shape[2]).to(bag.dtype)
    per_bag = F.binary_cross_entropy(bag, target, reduction="none").sum(dim=1)
    return _weighted(per_bag, weights).sum() / _bags(valid)


def prm_loss(scores: Tensor, class_index: Tensor, valid: Tensor, weights: Tensor | None = None) -> Tensor:
    """Generalised focal loss of the bag scores to the one-hot class, averaged over bags.

    Args:
        scores: (N, M, C) from `prm_scores`. weights: (N,) the bags' PSM scores, detached. Else as `psm_loss`.
    Returns: scalar; bags without a valid mask count nothing.
    """
    target = F.one_hot(class_index, scores.shape[2]).to(scores.dtype)
    per_bag = generalised_focal(scores.sum(dim=1), target).sum(dim=1) * valid.any(dim=1)
    return _weighted(per_bag, weights).sum() / _bags(valid)


def negative_loss(cls_logits: Tensor, keep: Tensor, num_bags: int) -> Tensor:
    """Generalised focal loss that pushes every class of the negatives to 0, divided by the number of bags.

    Args:
        cls_logits: (R, C) PRM class logits. keep: (R,) bool, False for candidates that overlap a positive.
    Returns: scalar.
    """
    score = cls_logits.sigmoid()
    return (generalised_focal(score, torch.zeros_like(score)) * keep[:, None]).sum() / max(1, num_bags)


def generalised_focal(score: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy times the squared distance to the target, elementwise; the gradient flows through both."""
    eps = 1e-6
    entropy = -(target * (score + eps).log() + (1 - target) * (1 - score + eps).log())
    return (score - target).square() * entropy


def _bags(valid: Tensor) -> Tensor:
    return valid.any(dim=1).sum().clamp(min=1)


def _weighted(values: Tensor, weights: Tensor | None) -> Tensor:
    return values if weights is None else values * weights
