"""A bag store of coloured squares: the class is the colour, a bag holds a part, the whole and too much."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sapnet_pipe.data.bag_store.manifest import BagIdentity
from sapnet_pipe.data.bag_store.masks import MaskColumns
from sapnet_pipe.data.bag_store.schema import Bag
from sapnet_pipe.data.bag_store.store import BagStore
from sapnet_pipe.data.bag_store.writer import open_writer
from sapnet_pipe.data.boxes import mask_to_box
from sapnet_pipe.data.coco.instances import Category, InstanceDataset, read_instances
from sapnet_pipe.data.coco.masks import encode_masks
from sapnet_pipe.data.files import write_json
from sapnet_pipe.stages.select.config import SelectConfig

COLOURS = ((220, 40, 40), (40, 200, 40))
SIZE = 64


def toy_store(folder: Path, images: int = 6, *, classes: int = 2) -> tuple[BagStore, Path, InstanceDataset]:
    """Images, bags and truth in `folder`; two objects per image, ids from 1."""
    rng = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    bags: list[Bag] = []
    annotations: list[dict[str, Any]] = []
    for image_id in range(1, images + 1):
        pixels = rng.integers(90, 130, (SIZE, SIZE, 3)).astype(np.uint8)
        for place in range(2):
            point_id = 2 * image_id - 1 + place
            label = int(rng.integers(0, classes))
            x, y = 4 + 32 * place, int(rng.integers(8, 36))
            whole = _square(x, y, 20)
            pixels[whole] = COLOURS[label]
            masks = np.stack([_square(x, y, 9), whole, _square(max(0, x - 4), max(0, y - 8), 34)])
            bags.append(_bag(image_id, point_id, label + 1, (x + 4.5, y + 4.5), masks, rng))
            annotations.append(_truth(image_id, point_id, label + 1, whole))
        Image.fromarray(pixels).save(folder / "images" / f"{image_id}.png")
    records = [{"id": i, "file_name": f"{i}.png", "height": SIZE, "width": SIZE} for i in range(1, images + 1)]
    categories = [Category(index + 1, f"colour {index + 1}") for index in range(classes)]
    named = [{"id": category.category_id, "name": category.name} for category in categories]
    write_json(folder / "truth.json", {"images": records, "annotations": annotations, "categories": named})
    identity = BagIdentity("toy", "0" * 64, "toy", {}, "float32", "0" * 64, 2)
    shards = [[b for b in bags if (b.image_id - 1) // 2 == s] for s in range((images + 1) // 2)]
    with open_writer(folder / "bags", identity, categories, len(shards)) as writer:
        for index, shard in enumerate(shards):
            writer.write_shard(index, shard, {"empty_mask": 1} if index == 0 else {})
        writer.finish({})
    return BagStore.open(folder / "bags"), folder / "images", read_instances(folder / "truth.json")


def toy_config(**changes: Any) -> SelectConfig:
    """Settings of a network that trains in seconds, `changes` as ``train__lr=0.1``."""
    values: dict[str, Any] = {
        "device": "cpu",
        "backbone": {"name": "resnet10", "width": 16, "weights": "none", "fpn_channels": 16},
        "head": {"channels": 32, "sampling_ratio": 1, "roi_size": 3, "canonical_size": 56},
        "negatives": {"random_boxes": 10, "part_min_side": 10},
        "guard": {"fallback": False},  # trainings this short are at chance
        "image": {"short_side": 64, "long_side": 64, "cache_mb": 1},
        "train": {
            "max_iterations": 6, "batch_size": 2, "lr": 0.003, "optimizer": "adamw", "warmup_iterations": 2,
            "checkpoint_every": 2, "log_every": 2, "scheduler": "cosine",
        },
    }  # fmt: skip
    for key, value in changes.items():
        *path, last = key.split("__")
        inner = values
        for name in path:
            inner = inner.setdefault(name, {})
        inner[last] = value
    return SelectConfig.model_validate(values)


def _square(x: int, y: int, side: int) -> np.ndarray:
    mask = np.zeros((SIZE, SIZE), bool)
    mask[y : y + side, x : x + side] = True
    return mask


def _bag(
    image_id: int, point_id: int, category_id: int, xy: tuple[float, float], masks: np.ndarray, rng: np.random.Generator
) -> Bag:
    count = len(masks)
    return Bag(
        image_id, f"{image_id}.png", SIZE, SIZE, point_id, category_id, xy,
        MaskColumns.from_rle(
            encode_masks(masks), SIZE, SIZE, score=rng.uniform(0.5, 0.9, count).astype(np.float32),
            stability=np.ones(count, np.float32), source=np.array([1, 2, 3], np.int8),
        ),
    )  # fmt: skip


def _truth(image_id: int, point_id: int, category_id: int, mask: np.ndarray) -> dict[str, Any]:
    segmentation = {"size": [SIZE, SIZE], "counts": encode_masks(mask[None])[0].decode()}
    box = mask_to_box(mask)
    return {
        "id": point_id, "image_id": image_id, "category_id": category_id, "segmentation": segmentation, "iscrowd": 0,
        "area": int(mask.sum()), "bbox": [float(v) for v in (box[0], box[1], box[2] - box[0], box[3] - box[1])],
    }  # fmt: skip
