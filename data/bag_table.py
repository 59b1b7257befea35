"""All bags of a store in memory, without their masks: a few NumPy columns."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class BagTable:
    """N points and their T masks in all; the masks of row i are `offsets[i]:offsets[i + 1]`.

    Args:
        image_id, point_id: (N,) int64; rows are sorted by (image_id, point_id).
        file_name: (N,) object array of str, one shared string per image.
        height, width: (N,) int32, the size of the image in pixels.
        category_id: (N,) int32.
        point_xy: (N, 2) float32 in original pixels.
        offsets: (N + 1,) int64.
        box_xyxy: (T, 4) float32 in original pixels, right and bottom exclusive.
        score, stability: (T,) float32.
        area: (T,) int32 pixels.
        source: (T,) int8, prompt * 4 + SAM mask token; prompt 0 is the point alone.
    """

    image_id: NDArray[np.int64]
    file_name: NDArray[np.object_]
    height: NDArray[np.int32]
    width: NDArray[np.int32]
    point_id: NDArray[np.int64]
    category_id: NDArray[np.int32]
    point_xy: NDArray[np.float32]
    offsets: NDArray[np.int64]
    box_xyxy: NDArray[np.float32]
    score: NDArray[np.float32]
    stability: NDArray[np.float32]
    area: NDArray[np.int32]
    source: NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.point_id)

    @property
    def bag_sizes(self) -> NDArray[np.int64]:
        """(N,) number of masks per bag."""
        return np.diff(self.offsets)


_SCALARS = ("image_id", "height", "width", "point_id", "category_id")
_LISTS = {"score": "mask_score", "stability": "mask_stability", "area": "mask_area", "source": "mask_source"}


def bag_table(shards: Iterable[pa.Table]) -> BagTable:
    """Join the shards' columns of `bag_schema.TABLE_COLUMNS`.

    Raises: ValueError if the lists of a shard are not of one length.
    """
    parts = [_columns(shard) for shard in shards]
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(joined.pop("sizes"), dtype=np.int64)])
    return BagTable(offsets=offsets, **joined)


def _columns(shard: pa.Table) -> dict[str, NDArray]:
    flat = {name: shard[column].combine_chunks().flatten().to_numpy() for name, column in _LISTS.items()}
    boxes = shard["mask_box"].combine_chunks()
    sizes = {column: _sizes(shard[column].combine_chunks()) for column in ("mask_box", *_LISTS.values())}
    if any(not np.array_equal(sizes["mask_box"], other) for other in sizes.values()):
        raise ValueError("the lists of a bag are not of one length")
    names = shard["file_name"].combine_chunks().dictionary_encode()
    return {
        **{name: shard[name].to_numpy() for name in _SCALARS},
        **flat,
        "file_name": np.array(names.dictionary.to_pylist(), object)[names.indices.to_numpy()],
        "point_xy": shard["point"].combine_chunks().flatten().to_numpy().reshape(-1, 2),
        "box_xyxy": boxes.flatten().flatten().to_numpy().reshape(-1, 4),
        "sizes": sizes["mask_box"],
    }


def _sizes(lists: pa.Array) -> NDArray[np.int64]:
    return np.diff(lists.offsets.to_numpy().astype(np.int64))
