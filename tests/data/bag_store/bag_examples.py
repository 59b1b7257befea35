"""Small bags and stores for tests."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sapnet_pipe.data.bag_store.manifest import BagIdentity
from sapnet_pipe.data.bag_store.masks import MaskColumns, MaskFigures
from sapnet_pipe.data.bag_store.schema import Bag
from sapnet_pipe.data.bag_store.store import BagStore
from sapnet_pipe.data.bag_store.table import BagTable
from sapnet_pipe.data.bag_store.writer import open_writer
from sapnet_pipe.data.coco.instances import Category
from sapnet_pipe.data.coco.masks import encode_masks

HEIGHT, WIDTH = 20, 30
CATEGORIES = (Category(1, "cat"), Category(7, "dog"))


def identity(**changes: object) -> BagIdentity:
    """An identity with some fields changed."""
    fields: dict[str, Any] = {
        "sam_model": "tiny",
        "checkpoint_sha256": "0" * 64,
        "recipe": "refined",
        "recipe_settings": {"refine": True, "duplicate_iou": 0.95},
        "precision": "float32",
        "points_sha256": "1" * 64,
        "shard_images": 2,
    }
    return BagIdentity(**(fields | changes))


def make_bag(image_id: int, point_id: int, size: int = 3, *, scores: Sequence[float] | None = None) -> Bag:
    """A bag of rectangles that differ by image, point and place; sources 1, 2, 3, then 4 * prompt."""
    masks = np.zeros((size, HEIGHT, WIDTH), bool)
    for place in range(size):
        masks[place, image_id % 5 : image_id % 5 + 2 + place, point_id % 7 : point_id % 7 + 4 + 2 * place] = True
    return Bag(
        image_id=image_id,
        file_name=f"folder/{image_id:04d}.jpg",
        height=HEIGHT,
        width=WIDTH,
        point_id=point_id,
        category_id=7 if point_id % 2 else 1,
        point_xy=(point_id % 7 + 0.5, image_id % 5 + 0.25),
        masks=MaskColumns.from_rle(
            encode_masks(masks),
            HEIGHT,
            WIDTH,
            score=np.array(scores or np.linspace(0.5, 0.9, size), np.float32),
            stability=np.linspace(0.8, 1.0, size).astype(np.float32),
            source=np.array([1, 2, 3, 4, 8, 12][:size], np.int8),
        ),
    )


def example_shards(images: int = 5, shard_images: int = 2) -> list[list[Bag]]:
    """Shards of ragged bags: image i has i % 3 + 1 points; point ids fall where image ids rise."""
    by_image = [
        [make_bag(10 * image, 1000 - 10 * image + point, 1 + (image + point) % 6) for point in range(image % 3 + 1)]
        for image in range(1, images + 1)
    ]
    return [
        [bag for bags in by_image[start : start + shard_images] for bag in bags]
        for start in range(0, images, shard_images)
    ]


def table_columns(table: BagTable) -> dict[str, NDArray]:
    """Every column of a table that is there, by name."""
    columns = {**_fields(table), **_fields(table.masks)}
    return {name: values for name, values in columns.items() if isinstance(values, np.ndarray)}


def _fields(record: BagTable | MaskFigures) -> dict[str, Any]:
    return {item.name: getattr(record, item.name) for item in dataclasses.fields(record)}


def write_store(folder: Path | str, shards: Sequence[Sequence[Bag]] | None = None, **changes: object) -> BagStore:
    """A finished store."""
    shards = example_shards() if shards is None else shards
    with open_writer(folder, identity(**changes), CATEGORIES, len(shards)) as writer:
        for index in writer.missing:
            writer.write_shard(index, shards[index], {"empty_masks": 1})
        writer.finish({"crowd": 2})
    return BagStore.open(folder)
