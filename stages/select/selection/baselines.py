"""The methods that need no training: SAM's own choice, the largest mask, and the best mask where the truth is known."""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from sapnet_pipe.data.bag_store.table import BASELINES, BagTable, baseline_choice, best_in_bag
from sapnet_pipe.data.labels.explanations import Selection
from sapnet_pipe.stages.select.batches.bag_images import padded_index
from sapnet_pipe.stages.select.method.mps import mps_alternates

CHUNK = 4096


def all_baselines(table: BagTable) -> dict[str, NDArray[np.int64]]:
    """The choices (N,) that a trained selector has to beat, by name."""
    return {name.replace("-", "_"): baseline_choice(table, name) for name in BASELINES}


def oracle_choice(table: BagTable, overlap: NDArray[np.float32]) -> NDArray[np.int64]:
    """The mask (N,) of each bag that overlaps the truth most; SAM's top-1 where the truth does not know the point.

    Args:
        overlap: (T,) IoU of every mask with its true object (`data.evaluation.bag_overlaps`).
    """
    best = best_in_bag(np.nan_to_num(overlap, nan=-1.0), table.offsets)
    known = ~np.isnan(overlap[table.offsets[:-1]])
    return np.where(known, best, baseline_choice(table, "sam-top1"))


def select_baseline(table: BagTable, choice: NDArray[np.int64]) -> Iterator[Selection]:
    """A choice (N,) made without modules, with SAM's scores, margins and alternates; some points at a time."""
    for start in range(0, len(table), CHUNK):
        rows = np.arange(start, min(start + CHUNK, len(table)))
        yield _select(table, rows, choice[rows])


def _select(table: BagTable, rows: NDArray[np.int64], chosen: NDArray[np.int64]) -> Selection:
    index, valid = padded_index(table.offsets, rows)
    scores = np.where(valid, table.masks.score[index], -np.inf)  # (N, M)
    place = np.arange(len(rows))
    score, others = scores[place, chosen], scores.copy()
    others[place, chosen] = -np.inf
    margin = score - others.max(axis=1)
    alone = ~np.isfinite(margin)
    return Selection(
        sizes=valid.sum(axis=1),
        alternates=mps_alternates(*map(torch.from_numpy, (scores, valid, chosen))).numpy(),
        image_id=table.image_id[rows],
        point_id=table.point_id[rows],
        category_id=table.category_id[rows],
        sam_score=table.masks.score[index[valid]],
        bag_index=chosen,
        runner_up=np.where(alone, -1, others.argmax(axis=1)),
        reassigned=np.zeros(len(rows), bool),
        margin=np.where(alone, np.nan, margin).astype(np.float32),
        score=score.astype(np.float32),
        confidence=score.clip(0, 1).astype(np.float32),
    )
