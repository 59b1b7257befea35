"""Predictions against clicks, in one photograph: which click is found, missed, doubled, merged or of another class.

P predictions, C clicks. A mask *holds* a click that lies in it. Predictions take clicks one to one, in descending order
of their scores: each the click of its class that it holds, that no other has taken, and that the fewest masks hold.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class ClickMatch:
    """What became of the clicks and the predictions.

    Attributes:
        taken: (P,) int64, the click that a prediction took, -1 for none.
        doubled: (P,) bool, holds clicks of its class, but others took all of them.
        merges: (P,) bool, holds more than one click of its class.
        empty: (P,) bool, holds no click of any class.
        found: (C,) bool, was taken.
        merged: (C,) bool, was not taken, and lies in a mask that took another click of its class.
        confused_with: (C,) int64, where no mask of a click's own class holds it, the class of the mask of the highest
            score that does; -1 where there is none.
    """

    taken: NDArray[np.int64]
    doubled: NDArray[np.bool_]
    merges: NDArray[np.bool_]
    empty: NDArray[np.bool_]
    found: NDArray[np.bool_]
    merged: NDArray[np.bool_]
    confused_with: NDArray[np.int64]


def match_clicks(
    holds: NDArray[np.bool_],
    scores: NDArray[np.float64],
    prediction_class: NDArray[np.int64],
    click_class: NDArray[np.int64],
) -> ClickMatch:
    """Match the predictions of one photograph with its clicks.

    Args:
        holds: (P, C) whether a mask holds a click.
        scores: (P,) of the predictions; of equal ones the first comes first.
        prediction_class, click_class: (P,) and (C,) category ids.
    """
    predictions, clicks = holds.shape
    own = holds & (prediction_class[:, None] == click_class)
    taken = np.full(predictions, -1, np.int64)
    found = np.zeros(clicks, bool)
    holders = own.sum(axis=0)
    for row in np.argsort(-scores, kind="stable"):
        free = np.flatnonzero(own[row] & ~found)
        if len(free):
            taken[row] = free[np.argmin(holders[free])]
            found[taken[row]] = True
    matched = taken >= 0
    other = holds & ~own & ~own.any(axis=0)
    best = np.where(other, scores[:, None], -np.inf).argmax(axis=0) if predictions else np.zeros(clicks, np.int64)
    confused = prediction_class[best] if predictions else np.full(clicks, -1, np.int64)
    return ClickMatch(
        taken=taken,
        doubled=own.any(axis=1) & ~matched,
        merges=own.sum(axis=1) > 1,
        empty=np.asarray(~holds.any(axis=1)),
        found=found,
        merged=~found & own[matched].any(axis=0),
        confused_with=np.where(other.any(axis=0), confused, -1),
    )
