"""From a selection to pseudo_labels.json; masks are read image by image."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sapnet_pipe.data.bag_store.store import BagStore
from sapnet_pipe.data.labels.explanations import Selection
from sapnet_pipe.data.labels.pseudo_labels import PseudoLabel, write_pseudo_labels
from sapnet_pipe.stages.select.batches.bag_images import BagImages


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
    psm_score, prm_score = selection.of_chosen(selection.pdg_score), selection.of_chosen(selection.prm_score)
    row = 0
    for _, masks in store.iter_masks():
        for point_id, rles in masks.items():
            chosen, box = int(selection.bag_index[row]), selection.prm_box
            if selection.point_id[row] != point_id:
                raise ValueError(f"row {row} is point {selection.point_id[row]}, of the masks point {point_id}")
            used = [rles[chosen], *(rles[index] for index in selection.alternates[row] if index >= 0)]
            store.check_masks(point_id, used, int(images.table.height[row]), int(images.table.width[row]))
            yield PseudoLabel(
                point_id=point_id,
                image_id=int(selection.image_id[row]),
                category_id=int(selection.category_id[row]),
                point_xy=_floats(images.table.point_xy[row]),
                rle=used[0],
                bag_index=chosen,
                score=float(selection.score[row]),
                psm_score=_known(psm_score[row]),
                prm_score=_known(prm_score[row]),
                margin=_known(selection.margin[row]),
                box_prm=None if box is None else _floats(box[row]),
                alternates=tuple(used[1:]),
                runner_up=None if selection.runner_up[row] < 0 else int(selection.runner_up[row]),
                confidence=float(selection.confidence[row]),
                source=source,
            )
            row += 1


def _floats(values: NDArray[np.float32]) -> Any:
    """A tuple of as many floats."""
    return tuple(map(float, values))


def _known(value: np.float32) -> float | None:
    return None if np.isnan(value) else float(value)
