"""Fixed rules that choose one mask of every bag: the baselines that a trained selector has to beat."""

import re

import numpy as np
from numpy.typing import NDArray

from sapnet_pipe.data.bag_store.table import BagTable
from sapnet_pipe.data.errors import UserError

TOKENS = 4  # SAM's mask tokens per prompt; source = prompt * TOKENS + token
FIXED_RULES = ("sam-top1", "largest", "token-1", "token-2", "token-3")


def fixed_choice(table: BagTable, rule: str) -> NDArray[np.int64]:
    """The bag-local index of the mask that a fixed rule takes.

    Args:
        rule: ``sam-top1``: SAM's highest score among the masks of the point prompt alone; ``largest``: the greatest
            area; ``token-k`` (k = 1, 2, 3): SAM's mask token k of the point prompt, or sam-top1 where that mask was
            empty and so is not in the bag. The earlier mask wins a tie.
    Returns: (N,) int64.
    Raises: UserError if there is no such rule.
    """
    if rule == "largest":
        return best_in_bag(table.area, table.offsets)
    top1 = best_in_bag(np.where(table.source < TOKENS, table.score, -np.inf), table.offsets)
    if rule == "sam-top1":
        return top1
    token = re.fullmatch(r"token-([1-3])", rule)
    if token is None:
        raise UserError("settings", "method", rule, "not a fixed rule", f"Choose one of {', '.join(FIXED_RULES)}")
    is_token = table.source == int(token.group(1))
    has_token = np.add.reduceat(is_token, table.offsets[:-1]) > 0 if len(table) else np.zeros(0, bool)
    return np.where(has_token, best_in_bag(is_token, table.offsets), top1)


def best_in_bag(values: NDArray, offsets: NDArray[np.int64]) -> NDArray[np.int64]:
    """Bag-local index of the greatest value of each bag, the first of equals.

    Args:
        values: (T,) numbers or bool, without NaN.
        offsets: (N + 1,) bounds of the bags; none is empty.
    Returns: (N,) int64.
    """
    if len(offsets) == 1:
        return np.zeros(0, np.int64)
    sizes = np.diff(offsets)
    greatest = np.repeat(np.maximum.reduceat(values, offsets[:-1]), sizes)
    places = np.where(values == greatest, np.arange(len(values)), len(values))
    return np.minimum.reduceat(places, offsets[:-1]) - offsets[:-1]
