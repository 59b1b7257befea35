"""How good the choices are, where the truth is known: is SAM at fault, or the selector?"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from sapnet_pipe.data.bag_store.store import BagStore
from sapnet_pipe.data.bag_store.table import BagTable
from sapnet_pipe.data.coco.instances import InstanceDataset, counts_of
from sapnet_pipe.data.coco.masks import rle_iou
from sapnet_pipe.data.errors import UserError
from sapnet_pipe.data.evaluation.mask_quality import MaskQuality, mask_quality


def mask_overlaps(store: BagStore, table: BagTable, truth: InstanceDataset) -> NDArray[np.float32]:
    """IoU (T,) of every mask with the true mask of its point; NaN where the truth has no object of the point's id.

    Raises: UserError if the truth knows none of the points, or gives an image another size.
    """
    objects = {a.annotation_id: a for a in truth.annotations if not a.iscrowd}
    overlap = np.full(len(table.masks), np.nan, np.float32)
    row = 0
    for _, masks in store.iter_masks():
        for point_id, rles in masks.items():
            found = objects.get(point_id)
            if found is not None and found.image_id == table.image_id[row]:
                true_mask = counts_of(found, truth.images[found.image_id], file=truth.source)
                height, width = int(table.height[row]), int(table.width[row])
                _check_size(truth, found.image_id, height, width)
                store.check_masks(point_id, rles, height, width)
                overlap[table.bag(row)] = rle_iou(rles, [true_mask], height, width)[:, 0]
            row += 1
    if np.isnan(overlap).all():
        hint = "Give the annotations that the points were made from"
        raise UserError(truth.source, "annotations", "ids", "none of which is the id of a point of the bags", hint)
    return overlap


def compare_choices(
    store: BagStore, table: BagTable, choices: Mapping[str, NDArray[np.int64]], truth: InstanceDataset
) -> dict[str, MaskQuality]:
    """Mask quality of several choices (N,) of bag-local indices, in one pass over the masks."""
    chosen: dict[str, dict[int, bytes]] = {name: {} for name in choices}
    row = 0
    for _, masks in store.iter_masks():
        for point_id, rles in masks.items():
            for name, choice in choices.items():
                chosen[name][point_id] = rles[choice[row]]
            row += 1
    return {name: mask_quality(pred, truth, source=store.folder) for name, pred in chosen.items()}


def _check_size(truth: InstanceDataset, image_id: int, height: int, width: int) -> None:
    image = truth.images[image_id]
    if (image.height, image.width) != (height, width):
        problem = f"but in the bag store it is {width} wide and {height} high"
        hint = "Give the annotations that the points were made from"
        raise UserError(truth.source, f"image {image_id} size", (image.width, image.height), problem, hint)
