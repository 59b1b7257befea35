"""All bags of a store in memory, without their RLEs, and the baselines that choose one mask of every bag by them."""

import re
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sapnet_pipe.data.bag_store.masks import TOKENS, MaskFigures
from sapnet_pipe.data.errors import UserError

_PER_ROW = ("image_id", "file_name", "height", "width", "point_id", "category_id", "point_xy")
BASELINES = ("sam-top1", "largest", "token-1", "token-2", "token-3")


@dataclass(frozen=True, slots=True)
class BagTable:
    """N points and their T masks in all.

    Args:
        image_id, point_id: (N,) int64; rows are sorted by (image_id, point_id).
        file_name: (N,) object array of str, one shared string per image.
        height, width: (N,) int32, the size of the image in pixels.
        category_id: (N,) int32.
        point_xy: (N, 2) float32 in original pixels.
        offsets: (N + 1,) int64; the masks of row i are `offsets[i]:offsets[i + 1]`.
        masks: Of all rows, T in number.
    """

    image_id: NDArray[np.int64]
    file_name: NDArray[np.object_]
    height: NDArray[np.int32]
    width: NDArray[np.int32]
    point_id: NDArray[np.int64]
    category_id: NDArray[np.int32]
    point_xy: NDArray[np.float32]
    offsets: NDArray[np.int64]
    masks: MaskFigures

    def __len__(self) -> int:
        return len(self.point_id)

    @property
    def bag_sizes(self) -> NDArray[np.int64]:
        """(N,) number of masks per bag."""
        return np.diff(self.offsets)

    def without_images(self, image_ids: Collection[int]) -> "BagTable":
        """The rows of the other images."""
        rows = ~np.isin(self.image_id, np.array(sorted(image_ids), np.int64))
        sizes = self.bag_sizes
        return BagTable(
            **{name: getattr(self, name)[rows] for name in _PER_ROW},
            offsets=np.concatenate([[0], np.cumsum(sizes[rows])]).astype(np.int64),
            masks=self.masks.take(np.repeat(rows, sizes)),
        )

    def bag(self, row: int) -> slice:
        """Where the masks of a row lie among all T."""
        return slice(int(self.offsets[row]), int(self.offsets[row + 1]))


def baseline_choice(table: BagTable, baseline: str) -> NDArray[np.int64]:
    """The bag-local index of the mask that a baseline takes.

    Args:
        baseline: ``sam-top1``: SAM's highest score among the masks of the point prompt alone; ``largest``: the greatest
            area; ``token-k`` (k = 1, 2, 3): SAM's mask token k of the point prompt, or sam-top1 where that mask was
            empty and so is not in the bag. The earlier mask wins a tie.
    Returns: (N,) int64.
    Raises: UserError if there is no such baseline.
    """
    masks = table.masks
    if baseline == "largest":
        return best_in_bag(masks.area, table.offsets)
    top1 = best_in_bag(np.where(masks.source < TOKENS, masks.score, -np.inf), table.offsets)
    if baseline == "sam-top1":
        return top1
    token = re.fullmatch(r"token-([1-3])", baseline)
    if token is None:
        raise UserError("settings", "method", baseline, "not a baseline", f"Choose one of {', '.join(BASELINES)}")
    is_token = masks.source == int(token.group(1))
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
