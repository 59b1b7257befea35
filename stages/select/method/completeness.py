"""Beyond the paper: how complete a proposal is, to tell a part from the whole.

Class scores alone cannot: the most telling part of an object is often classified better than all of it. So a small head
reads off every box what share of its object it holds,

    q_m = sigmoid(linear(feature of box m)),

and learns it from the selector's own choices, which over a data set are wholes more often than parts: with b the box
chosen (and mined) for the bag, box m should say

    u_m = area(m and b) / area(b)    (target ``coverage``)    or    u_m = IoU(m, b)    (target ``iou``),
    L_com = 1 / bags * sum over bags of S_bag * mean over m of BCE(q_m, u_m),

S_bag being PSM's bag score, without gradient. A box of a feature that usually is a part is then called incomplete also
where it was chosen. Scores are multiplied by

    S_com_m = (q_m / max over the bag of q)^e,

without gradient, so that no bag can raise its score by calling everything complete; the most complete mask of a bag
has the factor 1, as a mask without neighbours has under point distance guidance.

N bags, M masks per bag (padded).
"""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from sapnet_pipe.stages.select.method.boxes import box_area, box_iou, box_overlap

Target = Literal["coverage", "iou"]


def completeness_target(boxes: Tensor, chosen: Tensor, target: Target) -> Tensor:
    """What every box should say of itself: boxes (N, M, 4) and the bags' chosen boxes (N, 4) to (N, M) in [0, 1]."""
    if target == "iou":
        return box_iou(boxes, chosen[:, None])
    return box_overlap(boxes, chosen[:, None]) / box_area(chosen).clamp(min=1e-6)[:, None]


def completeness_score(logits: Tensor, valid: Tensor, *, exponent: float) -> Tensor:
    """S_com (N, M) in [0, 1] from the head's logits (N, M); no gradient. 0 on padding."""
    score = logits.detach().sigmoid() * valid
    return (score / score.amax(dim=1, keepdim=True).clamp(min=1e-12)).pow(exponent) * valid


def completeness_loss(logits: Tensor, wanted: Tensor, valid: Tensor, weights: Tensor, num_bags: float) -> Tensor:
    """L_com: cross-entropy of the boxes' answers, a mean over each bag, weighted by bag.

    Args:
        logits, wanted: (N, M). valid: (N, M) bool. weights: (N,) without gradient.
        num_bags: What the sum over bags is divided by.
    Returns: scalar.
    """
    entropy = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none") * valid
    per_bag = entropy.sum(dim=1) / valid.sum(dim=1).clamp(min=1)
    return (per_bag * weights).sum() / (num_bags or 1)


def joint_factor(*factors: Tensor | None) -> Tensor | None:
    """The product of those factors of the scores that are switched on."""
    product = None
    for factor in factors:
        if factor is not None:
            product = factor if product is None else product * factor
    return product
