"""How good the choices are, where the truth is known: is SAM at fault, or the selector?"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from sapnet_pipe.data.bag_store.store import BagStore
from sapnet_pipe.data.evaluation.mask_quality import ObjectOverlaps, object_overlaps
from sapnet_pipe.data.evaluation.objects import ObjectMatch


def compare_choices(
    store: BagStore, choices: Mapping[str, NDArray[np.int64]], match: ObjectMatch
) -> dict[str, ObjectOverlaps]:
    """How well several choices (N,) of bag-local indices cover the objects, in one pass over the masks."""
    chosen: dict[str, dict[int, bytes]] = {name: {} for name in choices}
    row = 0
    for _, masks in store.iter_masks():
        for point_id, rles in masks.items():
            for name, choice in choices.items():
                chosen[name][point_id] = rles[choice[row]]
            row += 1
    return {name: object_overlaps(pred, match, source=store.folder) for name, pred in chosen.items()}
