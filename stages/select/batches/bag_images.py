"""The images of a bag table, and the bags of one image as padded arrays."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sapnet_pipe.data.bag_store.table import BagTable
from sapnet_pipe.data.coco.instances import Category, ImageRecord
from sapnet_pipe.data.images import read_image
from sapnet_pipe.data.photo_names import find_photograph
from sapnet_pipe.data.pixel_depth import AUTO, Depth
from sapnet_pipe.stages.training.image_batch import ImageTransform, resize_image


@dataclass(frozen=True)
class BagImages:
    """Which rows of the table belong to which of the I images.

    Attributes:
        table: The bags, sorted by image.
        starts: (I + 1,) int64, image i has the rows starts[i] to starts[i + 1].
        class_index: (N,) int64, 0..C-1 in ascending order of the category ids.
        images_dir: Where the photographs lie.
        source: The bag store, to blame for a wrong file name.
        depth: How the photographs were scaled for SAM, and are here.
    """

    table: BagTable
    starts: NDArray[np.int64]
    class_index: NDArray[np.int64]
    images_dir: Path
    source: Path | str
    depth: Depth = AUTO

    def __len__(self) -> int:
        return len(self.starts) - 1

    def rows(self, image: int) -> NDArray[np.int64]:
        """Rows of the table of one image."""
        return np.arange(self.starts[image], self.starts[image + 1])

    def record(self, image: int) -> ImageRecord:
        """The image's id, file name and size."""
        row, table = self.starts[image], self.table
        size = int(table.height[row]), int(table.width[row])
        return ImageRecord(int(table.image_id[row]), str(table.file_name[row]), *size)

    def read(self, image: int, transform: ImageTransform) -> NDArray[np.uint8]:
        """Decode one image and bring it to the transform's size; not mirrored.

        Raises: UserError naming the image.
        """
        record = self.record(image)
        field = f"image {record.image_id}.file_name"
        path = find_photograph(self.images_dir, record.file_name, file=self.source, field=field)
        pixels = read_image(path, record.height, record.width, depth=self.depth, file=self.source, field=field)
        return resize_image(pixels, transform.height, transform.width)


def group_images(
    table: BagTable,
    categories: tuple[Category, ...],
    images_dir: Path,
    source: Path | str,
    depth: Depth = AUTO,
) -> BagImages:
    """Find the images of a table; needs memory for a few numbers per point, no Python object per point."""
    bounds = np.flatnonzero(np.diff(table.image_id)) + 1
    starts = np.concatenate([[0], bounds, [len(table)]]).astype(np.int64) if len(table) else np.zeros(1, np.int64)
    ids = np.array(sorted(category.category_id for category in categories), np.int64)
    index = np.searchsorted(ids, table.category_id).astype(np.int64)
    return BagImages(table, starts, index, images_dir, source, depth)


def padded_bags(table: BagTable, rows: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """The boxes of some bags, padded to the largest of them.

    Args:
        rows: (N,) rows of the table.
    Returns: boxes (N, M, 4) float32 in original pixels, zeros on padding; valid (N, M) bool.
    """
    index, valid = padded_index(table.offsets, rows)
    return np.where(valid[..., None], table.masks.box_xyxy[index], 0).astype(np.float32), valid


def padded_index(offsets: NDArray[np.int64], rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Where the masks of some bags lie in the table's flat columns: (N, M) int64, and validity; 0 on padding."""
    first, size = offsets[rows], offsets[rows + 1] - offsets[rows]
    place = np.arange(size.max(initial=0))[None]
    valid = place < size[:, None]
    return np.where(valid, first[:, None] + place, 0), valid
