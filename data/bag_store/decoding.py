"""The bytes of a shard read back: what it holds for the manifest, and its bags."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sapnet_pipe.data.bag_store.manifest import ShardEntry
from sapnet_pipe.data.bag_store.schema import FEATURE_COLUMN, Bag, ShardLabel, is_shard_schema
from sapnet_pipe.data.bag_store.table import bag_table, column_of


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
    table = _table_of(content)
    label = ShardLabel.from_metadata(table.schema.metadata)
    masks = len(table["mask_area"].combine_chunks().flatten())
    return WholeShard(label, _entry(name, content, table["image_id"].to_pylist(), masks, label))


def decode_bags(content: bytes) -> list[Bag]:
    """The bags of a shard; encoded again with the same label they give the same bytes.

    Raises: ValueError as `read_shard`.
    """
    content_table = _table_of(content)
    table = bag_table([content_table])
    with_features = FEATURE_COLUMN in content_table.column_names and len(table) > 0
    features = column_of([content_table[FEATURE_COLUMN]]).values if with_features else None
    bags = []
    for row, counts in enumerate(content_table["mask_counts"].to_pylist()):
        bag = slice(table.offsets[row], table.offsets[row + 1])
        x, y = table.point_xy[row].tolist()
        bags.append(
            Bag(
                image_id=int(table.image_id[row]),
                file_name=table.file_name[row],
                height=int(table.height[row]),
                width=int(table.width[row]),
                point_id=int(table.point_id[row]),
                category_id=int(table.category_id[row]),
                point_xy=(x, y),
                counts=counts,
                box_xyxy=table.box_xyxy[bag],
                area=table.area[bag],
                score=table.score[bag],
                stability=table.stability[bag],
                source=table.source[bag],
                feature=None if features is None else features[bag],
            )
        )
    return bags


def _table_of(content: bytes) -> pa.Table:
    try:
        table = pq.read_table(pa.BufferReader(content), page_checksum_verification=True)
    except (pa.ArrowException, OSError) as error:
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
