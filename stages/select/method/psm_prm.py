"""PSM and PRM, the two modules of multiple-instance learning: scores of masks, and the losses of bags and negatives.

N bags, M masks per bag (padded), C classes, R negatives. PSM has the background as its last class, PRM has none.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def psm_scores(cls_logits: Tensor, ins_logits: Tensor, valid: Tensor, s_dis: Tensor | None = None) -> Tensor:
    """S = softmax over classes * softmax over the bag * S_dis.

    Args:
        cls_logits, ins_logits: (N, M, C) float32, the background last. valid: (N, M) bool, False on padding.
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


def instance_scores(ins_logits: Tensor, valid: Tensor) -> Tensor:
    """Softmax over the valid masks of a bag, per class.

    Args:
        ins_logits: (N, M, C) float32. valid: (N, M) bool, False on padding.
    Returns: (N, M, C), sums to 1 over M; 0 on padding and for bags without a valid mask.
    """
    lowest = torch.finfo(ins_logits.dtype).min
    masked = ins_logits.masked_fill(~valid[..., None], lowest)
    return masked.softmax(dim=1) * valid[..., None]


def of_class(scores: Tensor, class_index: Tensor) -> Tensor:
    """The scores of each bag's class: (N, M, C) and (N,) int64 to (N, M)."""
    return scores.gather(2, class_index[:, None, None].expand(-1, scores.shape[1], 1)).squeeze(2)


def best_mask(scores: Tensor, valid: Tensor) -> Tensor:
    """Index (N,) of the highest-scored valid mask, the first of equals; scores (N, M)."""
    return scores.masked_fill(~valid, -1.0).argmax(dim=1)


def psm_loss(
    scores: Tensor, class_index: Tensor, valid: Tensor, weights: Tensor | None = None, num_bags: float | None = None
) -> Tensor:
    """Binary cross-entropy of the bag scores to the one-hot class, averaged over bags.

    Args:
        scores: (N, M, C) from `psm_scores`, C with the background.
        class_index: (N,) int64. valid: (N, M) bool. weights: (N,) or None for 1.
        num_bags: What the sum is divided by; None for the bags here that have a valid mask.
    Returns: scalar, float32; 0 for no bags.
    """
    with torch.autocast(scores.device.type, enabled=False):  # which refuses this cross-entropy on CUDA
        bag = scores.float().sum(dim=1).clamp(0, 1)
        target = _one_hot(class_index, bag)
        # The cross-entropy raises an error of its own for NaN; it must reach the loss, where training looks for it.
        entropy = F.binary_cross_entropy(bag.nan_to_num(), target, reduction="none") + 0 * bag
        per_bag = entropy.sum(dim=1)
        return _weighted(per_bag, weights).sum() / _bags(valid, num_bags)


def prm_loss(
    scores: Tensor, class_index: Tensor, valid: Tensor, weights: Tensor | None = None, num_bags: float | None = None
) -> Tensor:
    """Generalised focal loss of the bag scores to the one-hot class, averaged over bags.

    Args:
        scores: (N, M, C) from `prm_scores`. weights: (N,) the bags' PSM scores, detached. Else as `psm_loss`.
    Returns: scalar, float32; bags without a valid mask count nothing.
    """
    bag = scores.float().sum(dim=1)
    per_bag = generalised_focal(bag, _one_hot(class_index, bag)).sum(dim=1) * valid.any(dim=1)
    return _weighted(per_bag, weights).sum() / _bags(valid, num_bags)


def negative_loss(cls_logits: Tensor, keep: Tensor, num_bags: float, beta: Tensor | float = 1.0) -> Tensor:
    """Generalised focal loss that pushes every class of the negatives to 0, times beta, over the number of bags.

    beta, the mean PSM score of the bags, holds the negatives back while PSM knows little: some hundred negatives of
    all classes stand against few bags. As in P2BNet (arXiv 2207.06827, Eq. 8), on which the paper builds.

    Args:
        cls_logits: (R, C) PRM class logits. keep: (R,) bool, False for candidates that overlap a positive.
        beta: Scalar, detached.
    Returns: scalar, float32.
    """
    score = cls_logits.float().sigmoid()
    return beta * (generalised_focal(score, torch.zeros_like(score)) * keep[:, None]).sum() / (num_bags or 1)


def generalised_focal(score: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy times the squared distance to the target, elementwise; the gradient flows through both."""
    eps = 1e-6
    entropy = -(target * (score + eps).log() + (1 - target) * (1 - score + eps).log())
    return (score - target).square() * entropy


def _bags(valid: Tensor, num_bags: float | None) -> Tensor | float:
    return num_bags if num_bags is not None else valid.any(dim=1).sum().clamp(min=1)


def _one_hot(class_index: Tensor, scores: Tensor) -> Tensor:
    """(N,) to (N, C) in the scores' type; unlike torch's `one_hot` it never looks at the values on the host."""
    return (class_index[:, None] == torch.arange(scores.shape[1], device=scores.device)).to(scores.dtype)


def _weighted(values: Tensor, weights: Tensor | None) -> Tensor:
    return values if weights is None else values * weights
