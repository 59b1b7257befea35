"""One point per object: the table that stage one reads."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sapnet_pipe.data.coco.instances import Category, ImageRecord


@dataclass(frozen=True)
class PointSet:
    """N points, rows in ascending order of (image_id, point_id).

    Attributes:
        source: The file they came from.
        images: Every image of that file by id, also those without a point.
        image_id, point_id: (N,) int64; point ids are unique.
        category_id: (N,) int32.
        xy: (N, 2) float32 in original-image pixels, 0 <= x < width, 0 <= y < height.
        dropped: What was left out or corrected, by reason: ``crowd`` and ``without_point`` annotations,
            ``images_without_points``, ``points_moved_inside`` (corrected, not lost), and the ``further_points`` of
            objects that have several, if there are any.
        notes: What was mended in the file, a line a kind.
        sha256: Of the bytes that were read; empty if the points did not come straight from a file.
        taken_for: The form that the file was taken for, for people.
    Raises: ValueError if rows are out of order, refer to unknown images or categories, or lie outside their image.
    """

    source: Path
    images: dict[int, ImageRecord]
    categories: tuple[Category, ...]
    image_id: NDArray[np.int64]
    point_id: NDArray[np.int64]
    category_id: NDArray[np.int32]
    xy: NDArray[np.float32]
    dropped: dict[str, int]
    notes: tuple[str, ...] = ()
    sha256: str = ""
    taken_for: str = ""

    def __post_init__(self) -> None:
        count = len(self.point_id)
        if len(self.image_id) != count or len(self.category_id) != count or self.xy.shape != (count, 2):
            raise ValueError("the columns of a point set differ in length")
        if len(np.unique(self.point_id)) != count:
            raise ValueError("point ids are not unique")
        if not np.isin(self.category_id, [category.category_id for category in self.categories]).all():
            raise ValueError("a point has an unknown category")
        order = np.lexsort((self.point_id, self.image_id))
        if not np.array_equal(order, np.arange(count)):
            raise ValueError("points are not in ascending order of (image_id, point_id)")
        size = _sizes(self.images, self.image_id)
        if not ((self.xy >= 0) & (self.xy < size)).all():
            raise ValueError("a point lies outside its image")

    def __len__(self) -> int:
        return len(self.point_id)


def build_point_set(
    source: Path,
    images: dict[int, ImageRecord],
    categories: tuple[Category, ...],
    rows: list[tuple[int, int, int, float, float]],
    dropped: dict[str, int],
    notes: tuple[str, ...] = (),
    sha256: str = "",
    taken_for: str = "",
) -> PointSet:
    """Sort rows (image_id, point_id, category_id, x, y) of checked points into a PointSet.

    A coordinate that only float32 rounding carries onto the right or lower border is kept inside. Images without a
    row are counted in `dropped`.
    """
    rows = sorted(rows)
    image_id = np.array([row[0] for row in rows], np.int64)
    xy = np.array([row[3:] for row in rows], np.float64).reshape(-1, 2).astype(np.float32)
    last = np.nextafter(_sizes(images, image_id).astype(np.float32), np.float32(0))
    return PointSet(
        source=source,
        images=images,
        categories=categories,
        image_id=image_id,
        point_id=np.array([row[1] for row in rows], np.int64),
        category_id=np.array([row[2] for row in rows], np.int32),
        xy=np.minimum(xy, last),
        dropped=dropped | {"images_without_points": len(images) - len(np.unique(image_id))},
        notes=notes,
        sha256=sha256,
        taken_for=taken_for,
    )


def _sizes(images: dict[int, ImageRecord], image_id: NDArray[np.int64]) -> NDArray[np.int64]:
    """(N, 2) width and height of each row's image; ValueError if an image is unknown."""
    known, row_of = np.unique(image_id, return_inverse=True)
    try:
        sizes = [(images[int(key)].width, images[int(key)].height) for key in known]
    except KeyError as error:
        raise ValueError(f"a point has an unknown image {error}") from error
    return np.array(sizes, np.int64).reshape(-1, 2)[row_of]
