"""What has to be true of the rows of a store, in one place for its readers and for `bags verify`."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sapnet_pipe.data.bag_store.table import BagTable
from sapnet_pipe.data.coco.instances import Category


class RowFault(NamedTuple):
    """Rows of which something is wrong: their places, the column, and what is wrong with it."""

    rows: NDArray[np.int64]
    field: str
    problem: str


def row_faults(table: BagTable, categories: Sequence[Category]) -> Iterator[RowFault]:
    """The faults of a table of at least one row; the RLEs are not looked at.

    Args:
        categories: Those of the manifest.
    """
    for wrong, field, problem in (*_of_points(table, categories), *_of_masks(table)):
        if wrong.any():
            yield RowFault(np.flatnonzero(wrong), field, problem)


def rows_of_masks(table: BagTable, wrong: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(N,) which rows have a mask that is `wrong` (T,)."""
    rows = np.zeros(len(table), bool)
    rows[np.searchsorted(table.offsets, np.flatnonzero(wrong), side="right") - 1] = True
    return rows


_Wrong = tuple[NDArray[np.bool_], str, str]


def _of_points(table: BagTable, categories: Sequence[Category]) -> Iterator[_Wrong]:
    step, tie = np.diff(table.image_id), np.diff(table.point_id)
    unsorted = np.concatenate([[False], (step < 0) | ((step == 0) & (tie <= 0))])
    yield unsorted, "point_id", "out of the order (image_id, point_id)"
    known = [category.category_id for category in categories]
    yield ~np.isin(table.category_id, known), "category_id", "not a category of the manifest"
    size = np.stack([table.width, table.height], axis=1)
    yield np.asarray((size <= 0).any(axis=1)), "height", "an image without pixels"
    inside = ((table.point_xy >= 0) & (table.point_xy < size)).all(axis=1)
    yield np.asarray(~inside), "point", "outside its image"
    yield table.bag_sizes == 0, "mask_counts", "an empty bag"


def _of_masks(table: BagTable) -> Iterator[_Wrong]:
    masks = table.masks
    row_of = np.repeat(np.arange(len(table)), table.bag_sizes)
    repeated = np.concatenate([[False], (np.diff(masks.source) <= 0) & (np.diff(row_of) == 0)])[: len(masks)]
    x1, y1, x2, y2 = masks.box_xyxy.T
    inside = (x1 >= 0) & (y1 >= 0) & (x1 < x2) & (y1 < y2) & (x2 <= table.width[row_of]) & (y2 <= table.height[row_of])
    for wrong, field, problem in (
        (repeated, "mask_source", "out of order within its bag"),
        (masks.source < 0, "mask_source", "not a prompt and token of SAM"),
        (~np.isfinite(masks.score), "mask_score", "not a finite number"),
        (~((masks.stability >= 0) & (masks.stability <= 1)), "mask_stability", "not within 0..1"),
        (~inside, "mask_box", "not a box within its image"),
        (masks.area <= 0, "mask_area", "not the area of a mask"),
    ):
        yield rows_of_masks(table, wrong), field, problem
