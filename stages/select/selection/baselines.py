"""The methods that need no training: SAM's own choice, the largest mask, and the best mask where the truth is known."""

import numpy as np
import torch
from numpy.typing import NDArray

from sapnet_pipe.data.bag_store.table import BagTable, baseline_choice
from sapnet_pipe.stages.select.batches.bag_images import padded_index
from sapnet_pipe.stages.select.method.mps import mps_alternates
from sapnet_pipe.stages.select.selection.choose import Selection, empty_selection

CHUNK = 100_000


def select_baseline(table: BagTable, baseline: str) -> Selection:
    """The choice of a baseline (``sam-top1``, ``largest``), scored by SAM."""
    return as_selection(table, baseline_choice(table, baseline))


def as_selection(table: BagTable, bag_index: NDArray[np.int64]) -> Selection:
    """A choice (N,) made without modules, with SAM's scores, margins and alternates."""
    result = empty_selection(len(table))
    result.bag_index[:], result.psm_index[:] = bag_index, bag_index
    for start in range(0, len(table), CHUNK):
        rows = np.arange(start, min(start + CHUNK, len(table)))
        _fill(result, table, rows)
    return result


def _fill(result: Selection, table: BagTable, rows: NDArray[np.int64]) -> None:
    index, valid = padded_index(table.offsets, rows)
    scores = np.where(valid, table.masks.score[index], -np.inf)  # (N, M)
    chosen = result.bag_index[rows]
    place = np.arange(len(rows))
    own, others = scores[place, chosen], scores.copy()
    others[place, chosen] = -np.inf
    result.score[rows] = own
    margin = own - others.max(axis=1)
    result.margin[rows] = np.where(np.isfinite(margin), margin, np.nan)
    result.runner_up[rows] = np.where(np.isfinite(margin), others.argmax(axis=1), -1)
    result.confidence[rows] = own.clip(0, 1)
    alternates = mps_alternates(torch.from_numpy(scores), torch.from_numpy(valid), torch.from_numpy(chosen))
    result.alternates[rows] = alternates.numpy()
