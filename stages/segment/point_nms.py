"""Non-maximum suppression on the category grid, before any mask is made."""

from torch import Tensor
from torch.nn.functional import max_pool2d


def point_nms(scores: Tensor) -> Tensor:
    """Keep a score if none of its upper, left and upper-left neighbours is higher; else 0. Ties stay.

    Args:
        scores: (B, K, G, G), not negative.
    Returns: (B, K, G, G).
    """
    highest = max_pool2d(scores, 2, stride=1, padding=1)[:, :, :-1, :-1]
    return scores * (highest == scores)
