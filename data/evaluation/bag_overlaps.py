"""How far every mask of a bag store covers the true object of its click."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sapnet_pipe.data.bag_store.store import BagStore
from sapnet_pipe.data.bag_store.table import BagTable
from sapnet_pipe.data.coco.instances import ImageRecord, InstanceDataset, counts_of
from sapnet_pipe.data.coco.masks import rle_iou
from sapnet_pipe.data.evaluation.identity import align
from sapnet_pipe.data.evaluation.objects import Clicked, ObjectMatch, match_objects
from sapnet_pipe.data.progress import progress_bar


@dataclass(frozen=True)
class BagOverlaps:
    """The masks of a store beside a truth.

    Attributes:
        match: True object of each point id.
        iou: (T,) IoU of every mask with the true object of its point; NaN where there is none.
    """

    match: ObjectMatch
    iou: NDArray[np.float64]


def bag_overlaps(store: BagStore, table: BagTable, truth: InstanceDataset, *, quiet: bool = True) -> BagOverlaps:
    """Find the object of every point, and compare its masks with it; every mask is read once, image by image.

    Raises: UserError if the truth has none of the objects or photographs, or a photograph in another size.
    """
    match = match_points(store, table, truth)
    objects = {annotation.annotation_id: annotation for annotation in match.truth.annotations}
    iou = np.full(len(table.masks), np.nan)
    row = 0
    for _, masks in progress_bar(store.iter_masks(), total=store.manifest.images, desc="comparing", quiet=quiet):
        for point_id, rles in masks.items():
            if point_id in match.found:
                annotation = objects[match.found[point_id]]
                image = match.truth.images[annotation.image_id]
                true_rle = counts_of(annotation, image, file=truth.source)
                store.check_masks(point_id, rles, image.height, image.width)
                iou[table.bag(row)] = rle_iou(rles, [true_rle], image.height, image.width)[:, 0]
            row += 1
    return BagOverlaps(match, iou)


def match_points(store: BagStore, table: BagTable, truth: InstanceDataset) -> ObjectMatch:
    """The true object of every point of a store. Raises: UserError as `bag_overlaps`."""
    used = set(np.unique(table.category_id).tolist())
    categories = [category for category in store.categories if category.category_id in used]
    return match_objects(_clicks(table), align(_images(table), categories, truth, source=store.folder))


def _images(table: BagTable) -> Iterator[ImageRecord]:
    for row in np.unique(table.image_id, return_index=True)[1].tolist():
        yield ImageRecord(
            int(table.image_id[row]), str(table.file_name[row]), int(table.height[row]), int(table.width[row])
        )


def _clicks(table: BagTable) -> Iterator[Clicked]:
    columns = table.point_id, table.image_id, table.category_id, *table.point_xy.T
    yield from map(Clicked._make, zip(*(column.tolist() for column in columns), [False] * len(table), strict=True))
