"""From a selection to pseudo_labels.json; masks are read image by image."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sapnet_pipe.data.bag_store.store import BagStore
from sapnet_pipe.data.labels.pseudo_labels import PseudoLabel, write_pseudo_labels
from sapnet_pipe.stages.select.batches.bag_images import BagImages
from sapnet_pipe.stages.select.selection.choose import Selection


def export_labels(
    path: Path, store: BagStore, images: BagImages, selection: Selection, source: str, *, info: Mapping[str, Any]
) -> int:
    """Write the pseudo labels of every point.

    Args:
        source: The method that made the selection.
    Returns: how many.
    Raises: UserError if the store cannot be read or the file not be written.
    """
    records = [images.record(index) for index in range(len(images))]
    write_pseudo_labels(path, records, store.categories, _labels(store, images, selection, source), info=info)
    return len(images.table)


def _labels(store: BagStore, images: BagImages, selection: Selection, source: str) -> Iterator[PseudoLabel]:
    row = 0
    for _, masks in store.iter_masks():
        for point_id, counts in masks.items():
            yield _label(images, selection, source, row, point_id, counts)
            row += 1


def _label(
    images: BagImages, selection: Selection, source: str, row: int, point_id: int, counts: list[bytes]
) -> PseudoLabel:
    table, chosen = images.table, int(selection.bag_index[row])
    if table.point_id[row] != point_id:
        raise ValueError(f"row {row} of the table is point {table.point_id[row]}, of the masks point {point_id}")
    box = selection.box_prm[row]
    return PseudoLabel(
        point_id=point_id,
        image_id=int(table.image_id[row]),
        category_id=int(table.category_id[row]),
        point_xy=(float(table.point_xy[row, 0]), float(table.point_xy[row, 1])),
        counts=counts[chosen],
        bag_index=chosen,
        score=float(selection.score[row]),
        psm_score=_known(selection.psm_score[row]),
        prm_score=_known(selection.prm_score[row]),
        margin=_known(selection.margin[row]),
        box_prm=None if np.isnan(box).any() else (float(box[0]), float(box[1]), float(box[2]), float(box[3])),
        alternates=tuple(counts[index] for index in selection.alternates[row] if index >= 0),
        runner_up=None if selection.runner_up[row] < 0 else int(selection.runner_up[row]),
        confidence=float(selection.confidence[row]),
        source=source,
    )


def _known(value: np.float32) -> float | None:
    return None if np.isnan(value) else float(value)
