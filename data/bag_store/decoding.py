"""Shards read back: Arrow columns as NumPy arrays, as a table of many bags, or as single bags with their RLEs."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sapnet_pipe.data.bag_store.contents import row_faults
from sapnet_pipe.data.bag_store.manifest import ShardEntry
from sapnet_pipe.data.bag_store.masks import FIGURE_COLUMNS, RLE_COLUMN, MaskFigures
from sapnet_pipe.data.bag_store.schema import Bag, ShardLabel, is_shard_schema
from sapnet_pipe.data.bag_store.table import BagTable
from sapnet_pipe.data.coco.instances import Category


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
        return Column(_values(joined), None)
    return Column(_values(joined.flatten()), bounds_of(joined))


def bag_table(shards: Iterable[pa.Table]) -> BagTable:
    """Join shards, of which at least `schema.TABLE_COLUMNS` were read; the RLEs are left alone.

    Raises: ValueError if the lists of a bag are not of one length, or a value is null.
    """
    # Joined before it is converted: one call for all shards instead of a dozen for each.
    table = pa.concat_tables(shards).combine_chunks()
    _refuse_nulls(table)
    present = [column for column in FIGURE_COLUMNS if column.is_in(table.column_names)]
    lists = {column.field: table[column.name].combine_chunks() for column in present}
    offsets = _common_bounds(lists.values())
    names = table["file_name"].combine_chunks().dictionary_encode()
    numbers = ("image_id", "height", "width", "point_id", "category_id")
    return BagTable(
        **{name: column_of([table[name]]).values for name in numbers},
        file_name=np.array(names.dictionary.to_pylist(), object)[names.indices.to_numpy()],
        point_xy=column_of([table["point"]]).values,
        offsets=offsets,
        masks=MaskFigures(**{name: _values(column.flatten()) for name, column in lists.items()}),
    )


def rles_of(table: pa.Table, bag_sizes: NDArray[np.int64]) -> list[bytes]:
    """The T RLEs of a table's rows. Raises: ValueError if the bags do not have `bag_sizes` (N,) of them, all there."""
    _refuse_nulls(table.select([RLE_COLUMN.name]))
    column = table[RLE_COLUMN.name].combine_chunks()
    if not np.array_equal(np.diff(bounds_of(column)), bag_sizes):
        raise ValueError("the lists of a bag are not of one length")
    rles: list[bytes] = column.flatten().to_pylist()
    return rles


@dataclass(frozen=True, slots=True)
class WholeShard:
    """A shard that can be read to its end: what it says of itself, and what the manifest says of it."""

    label: ShardLabel
    entry: ShardEntry


def read_shard(content: bytes, name: str) -> WholeShard:
    """Read all of a shard's bytes.

    Args:
        name: The file name for its entry.
    Raises: ValueError if they are cut short, damaged, of another schema or carry no label.
    """
    table = _arrow_table(content)
    label = ShardLabel.from_metadata(table.schema.metadata)
    masks = len(table[RLE_COLUMN.name].combine_chunks().flatten())
    return WholeShard(label, _entry(name, content, table["image_id"].to_pylist(), masks, label))


def decode_bags(content: bytes, categories: Sequence[Category]) -> list[Bag]:
    """The bags of a shard; encoded again with the same label they give the same bytes.

    Args:
        categories: Those of the manifest.
    Raises: ValueError as `read_shard`, and for a row that is wrong.
    """
    rows = _arrow_table(content)
    table = bag_table([rows])
    for fault in row_faults(table, categories):
        raise ValueError(f"row {fault.rows[0]}.{fault.field}: {fault.problem}")
    masks = table.masks.with_rle(rles_of(rows, table.bag_sizes))
    return [
        Bag(
            image_id=int(table.image_id[row]),
            file_name=table.file_name[row],
            height=int(table.height[row]),
            width=int(table.width[row]),
            point_id=int(table.point_id[row]),
            category_id=int(table.category_id[row]),
            point_xy=(float(table.point_xy[row, 0]), float(table.point_xy[row, 1])),
            masks=masks.take(table.bag(row)),
        )
        for row in range(len(table))
    ]


def is_want_of_memory(error: Exception) -> bool:
    """Whether reading failed for want of memory, which says nothing of the file; zstd's word for it is an OSError."""
    return isinstance(error, MemoryError) or "llocat" in str(error) or "memory" in str(error)


def _arrow_table(content: bytes) -> pa.Table:
    try:
        table = pq.read_table(pa.BufferReader(content), page_checksum_verification=True)
    except (pa.ArrowException, OSError) as error:
        if is_want_of_memory(error):
            raise MemoryError(f"{error}") from error
        raise ValueError(f"not a whole shard ({error})") from error
    if not is_shard_schema(table.schema):
        raise ValueError(f"not the columns of a bag shard: {table.schema.names}")
    return table


def _entry(name: str, content: bytes, image_ids: Sequence[int], masks: int, label: ShardLabel) -> ShardEntry:
    # A shard all of whose images failed has no row, yet keeps its place in the order of image ids.
    bounds = image_ids or [image.image_id for image in label.failed] or [0]
    return ShardEntry(
        file=name,
        images=len(np.unique(image_ids)),
        rows=len(image_ids),
        masks=masks,
        first_image_id=bounds[0],
        last_image_id=bounds[-1],
        bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
    )


def _common_bounds(lists: Iterable[pa.Array]) -> NDArray[np.int64]:
    """(N + 1,) where each bag begins; ValueError if the columns disagree."""
    first, *others = map(bounds_of, lists)
    if any(not np.array_equal(first, other) for other in others):
        raise ValueError("the lists of a bag are not of one length")
    return first


def _refuse_nulls(table: pa.Table) -> None:
    if any(_nulls(chunk) for column in table.columns for chunk in column.chunks):
        raise ValueError("a value is null")


def _nulls(array: pa.Array) -> int:
    nested = pa.types.is_list(array.type) or pa.types.is_fixed_size_list(array.type)
    return int(array.null_count) + (_nulls(array.flatten()) if nested else 0)


def bounds_of(lists: pa.Array) -> NDArray[np.int64]:
    """(N + 1,) where each list begins in the flat values."""
    offsets = lists.offsets.to_numpy().astype(np.int64)
    return offsets - offsets[0]


def _values(array: pa.Array) -> NDArray:
    """(n,) or (n, size) values that may be written to; ValueError for lists of different lengths."""
    if pa.types.is_fixed_size_list(array.type) or pa.types.is_list(array.type):
        values = np.array(array.flatten().to_numpy())
        size = array.type.list_size if pa.types.is_fixed_size_list(array.type) else len(values) // max(len(array), 1)
        return values.reshape(len(array), size)
    return np.array(array.to_numpy(zero_copy_only=False))
