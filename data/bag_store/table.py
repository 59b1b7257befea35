"""All bags of a store in memory, without their masks: a few NumPy columns."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

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
    # Joined before it is turned: one call for all shards instead of a dozen for each.
    table = pa.concat_tables(shards).combine_chunks()
    lists = {name: table[name].combine_chunks() for name in ("mask_box", *_LISTS.values())}
    offsets = _bounds(lists["mask_box"])
    if any(not np.array_equal(offsets, _bounds(column)) for column in lists.values()):
        raise ValueError("the lists of a bag are not of one length")
    names = table["file_name"].combine_chunks().dictionary_encode()
    return BagTable(
        **{name: column_of([table[name]]).values for name in _SCALARS},
        **{name: _plain(lists[column].flatten()) for name, column in _LISTS.items()},
        file_name=np.array(names.dictionary.to_pylist(), object)[names.indices.to_numpy()],
        point_xy=column_of([table["point"]]).values,
        box_xyxy=_plain(lists["mask_box"].flatten()),
        offsets=offsets,
    )


class Column(NamedTuple):
    """One column of a store.

    Attributes:
        values: (N, ...) for a column of the points, (T, ...) for one of all their masks.
        offsets: (N + 1,) int64 bounds of the bags in `values`; None for a column of the points.
    """

    values: NDArray[Any]
    offsets: NDArray[np.int64] | None


def column_of(chunks: Sequence[pa.ChunkedArray]) -> Column:
    """Join a column of the shards."""
    joined = pa.concat_arrays([chunk for shard in chunks for chunk in shard.chunks] or [chunks[0].combine_chunks()])
    if not pa.types.is_list(joined.type):
        return Column(_plain(joined), None)
    return Column(_plain(joined.flatten()), _bounds(joined))


def _bounds(lists: pa.Array) -> NDArray[np.int64]:
    """(N + 1,) where each list begins in the flat values."""
    offsets = lists.offsets.to_numpy().astype(np.int64)
    return offsets - offsets[0]


def _plain(array: pa.Array) -> NDArray:
    """(n,) or (n, size) values that may be written to; ValueError for lists of different lengths."""
    if pa.types.is_fixed_size_list(array.type) or pa.types.is_list(array.type):
        values = np.array(array.flatten().to_numpy())
        return values.reshape(len(array), len(values) // max(len(array), 1))
    return np.array(array.to_numpy(zero_copy_only=False))
