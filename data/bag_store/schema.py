"""The columns of a bag shard, and the bytes of one: a row per point, the masks of its bag as lists in that row."""

import json
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sapnet_pipe.data.bag_store.masks import MASK_COLUMNS, RLE_COLUMN, MaskColumn, MaskColumns

SCHEMA_VERSION = 1
IMAGES_PER_ROW_GROUP = 32  # one image is one cheap read, yet the boxes of 850,000 points load in seconds
METADATA_KEY = b"sapnet-pipe"

_POINT_COLUMNS = (
    ("image_id", pa.int64()),
    ("file_name", pa.string()),
    ("height", pa.int32()),
    ("width", pa.int32()),
    ("point_id", pa.int64()),
    ("category_id", pa.int32()),
    ("point", pa.list_(pa.float32(), 2)),
)


def shard_schema(optional: Container[str] = ()) -> pa.Schema:
    """The columns of a shard, those of `optional` among them, in order.

    Those of the masks are lists of plain values, not list<struct>: column projection does not reach into structs, and
    boxes are read alone.
    """
    masks = ((column.name, pa.list_(column.kind)) for column in MASK_COLUMNS if column.is_in(optional))
    return pa.schema([pa.field(name, kind, nullable=False) for name, kind in (*_POINT_COLUMNS, *masks)])


def is_shard_schema(schema: pa.Schema) -> bool:
    """Whether these are the columns of a shard, with any of those that a store may lack."""
    return bool(schema.equals(shard_schema(schema.names)))


SCHEMA = shard_schema()
TABLE_COLUMNS = tuple(name for name in SCHEMA.names if name != RLE_COLUMN.name)


@dataclass(frozen=True, slots=True)
class Bag:
    """One point and its M >= 1 masks.

    Args:
        image_id, file_name, height, width: The image, in original pixels.
        point_id, category_id: The point's id and its COCO category.
        point_xy: (x, y) in original pixels.
        masks: The masks of the point.
    """

    image_id: int
    file_name: str
    height: int
    width: int
    point_id: int
    category_id: int
    point_xy: tuple[float, float]
    masks: MaskColumns

    def __post_init__(self) -> None:
        if not len(self.masks):
            raise ValueError(f"point {self.point_id}: a bag needs at least one mask")


@dataclass(frozen=True, slots=True)
class FailedImage:
    """An image without bags because it could not be read, and why."""

    image_id: int
    file_name: str
    points: int
    reason: str

    def __post_init__(self) -> None:
        if not all(type(number) is int for number in (self.image_id, self.points)):
            raise ValueError(f"failed image {self.image_id!r}: id and points are whole numbers")
        if not all(type(text) is str for text in (self.file_name, self.reason)):
            raise ValueError(f"failed image {self.image_id}: file_name and reason are texts")


@dataclass(frozen=True, slots=True)
class ShardLabel:
    """What a shard says of itself in its footer, so that it is known without any other file.

    Args:
        fingerprint: Of the store it belongs to.
        index: Its place among the store's shards.
        dropped: What was left out while its bags were made, by reason.
        failed: Its images that could not be read, by ascending id.
    """

    fingerprint: str
    index: int
    dropped: Mapping[str, int]
    failed: tuple[FailedImage, ...] = ()

    def to_bytes(self) -> bytes:
        content = {"fingerprint": self.fingerprint, "index": self.index, "dropped": dict(sorted(self.dropped.items()))}
        failed = {"failed": [asdict(image) for image in self.failed]} if self.failed else {}
        return json.dumps(content | failed).encode()

    @classmethod
    def from_metadata(cls, metadata: Mapping[bytes, bytes] | None) -> "ShardLabel":
        """Read the label from a parquet file's key-value metadata. Raises: ValueError if there is none."""
        try:
            content = json.loads((metadata or {})[METADATA_KEY])
            failed = tuple(FailedImage(**image) for image in content.get("failed", ()))
            return cls(str(content["fingerprint"]), int(content["index"]), dict(content["dropped"]), failed)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError("the file carries no label of a bag store") from error


# Lengths apart from characters, and bytes of one weight together: zstd finds more in them.
_ENCODINGS = {pa.binary(): "DELTA_LENGTH_BYTE_ARRAY", pa.float32(): "BYTE_STREAM_SPLIT"}
_RLE_LEVEL = 9  # of zstd: 7 % smaller than at level 1; 19 gains 4 % more for ten times the work


def encode_shard(bags: Sequence[Bag], label: ShardLabel) -> bytes:
    """Parquet bytes of one shard; the same bags and label give the same bytes.

    Args:
        bags: Sorted by (image_id, point_id), every image whole; a column that a store may lack is in all or in none.
    """
    optional = {column.name for column in MASK_COLUMNS for bag in bags if getattr(bag.masks, column.field) is not None}
    schema = shard_schema(optional).with_metadata({METADATA_KEY: label.to_bytes()})
    leaves = dict(map(_leaf, MASK_COLUMNS))
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(
        sink,
        schema,
        compression="zstd",
        compression_level={path: _RLE_LEVEL for path, kind in leaves.items() if kind == RLE_COLUMN.kind},
        use_dictionary=["file_name"],
        column_encoding={path: _ENCODINGS[kind] for path, kind in leaves.items() if kind in _ENCODINGS},
        write_statistics=["image_id", "point_id"],
        write_page_checksum=True,
    ) as writer:
        for group in _row_groups(bags):
            writer.write_table(_table(group, schema), row_group_size=len(group))
    return bytes(sink.getvalue())


def _leaf(column: MaskColumn) -> tuple[str, pa.DataType]:
    """Where in the Parquet schema the plain values of a column lie, and their type."""
    path, kind = f"{column.name}.list.element", column.kind
    while isinstance(kind, (pa.ListType, pa.FixedSizeListType)):
        path, kind = f"{path}.list.element", kind.value_type
    return path, kind


def _row_groups(bags: Sequence[Bag]) -> Iterable[list[Bag]]:
    images = [list(group) for _, group in groupby(bags, key=lambda bag: bag.image_id)]
    for start in range(0, len(images), IMAGES_PER_ROW_GROUP):
        yield [bag for image in images[start : start + IMAGES_PER_ROW_GROUP] for bag in image]


def _table(bags: Sequence[Bag], schema: pa.Schema) -> pa.Table:
    points = [pa.array([getattr(bag, name) for bag in bags], kind) for name, kind in _POINT_COLUMNS[:-1]]
    points.append(_array([bag.point_xy for bag in bags], _POINT_COLUMNS[-1][1]))
    masks = MaskColumns.concat([bag.masks for bag in bags])
    offsets = pa.array(np.cumsum([0, *(len(bag.masks) for bag in bags)]), pa.int32())
    lists = [
        pa.ListArray.from_arrays(offsets, _array(getattr(masks, column.field), column.kind))
        for column in MASK_COLUMNS
        if column.name in schema.names
    ]
    return pa.Table.from_arrays([*points, *lists], schema=schema)


def _array(values: Any, kind: pa.DataType) -> pa.Array:
    """Values (n, ...) as an Arrow array of `kind`."""
    if pa.types.is_binary(kind):
        return pa.array(values, kind)
    if not isinstance(kind, (pa.ListType, pa.FixedSizeListType)):
        return pa.array(np.asarray(values, kind.to_pandas_dtype()))
    rows = np.asarray(values, kind.value_type.to_pandas_dtype())
    flat = pa.array(rows.reshape(-1))
    if isinstance(kind, pa.FixedSizeListType):
        return pa.FixedSizeListArray.from_arrays(flat, kind.list_size)
    return pa.ListArray.from_arrays(pa.array(np.arange(len(rows) + 1) * rows.shape[1], pa.int32()), flat)
