"""What a bag store costs beside the same bags as JSON: bytes per mask, seconds to read boxes, an image, a column.

`store_figures()` gives the figures for `make bench-bags`; run as a script it prints them as one JSON line.
"""

import argparse
import dataclasses
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from sapnet_pipe.data.bag_store.manifest import BagIdentity
from sapnet_pipe.data.bag_store.masks import MaskColumns
from sapnet_pipe.data.bag_store.schema import Bag
from sapnet_pipe.data.bag_store.store import BagStore
from sapnet_pipe.data.bag_store.writer import open_writer
from sapnet_pipe.data.boxes import xyxy_to_xywh
from sapnet_pipe.data.coco.instances import Category
from sapnet_pipe.data.coco.masks import encode_masks, runs_of

HEIGHT, WIDTH, MASKS, PER_IMAGE, SHARD_IMAGES = 480, 640, 6, 7, 64
COCO_POINTS = 850_000
_POOL = 700  # bags; a row group holds 112 and is compressed on its own, so none meets a copy of its masks


def store_figures(
    points: int = COCO_POINTS, json_points: int = 10_000, bags: list[Bag] | None = None
) -> dict[str, Any]:
    """Write the same bags as a store and as JSON, and measure both.

    The store has all `points`; the JSON files have `json_points` of them and their sizes and seconds are taken in
    proportion, since at full size they need gigabytes of memory.

    Args:
        bags: Real bags to repeat under new ids; without, six nested outlines around each point are made up.
    Returns: ``store_size_vs_json`` and ``store_boxes_vs_json`` (how many times smaller and faster the store is than
        the JSON of `json_of`), the same against COCO JSON and against uncompressed runs, and what they were made of.
    """
    pool = bags or made_up_bags(_POOL)
    with tempfile.TemporaryDirectory() as folder:
        store = write_store(Path(folder) / "store", pool, points)
        figures = _store_seconds(store)
        figures |= {"points": len(store.read_table()), "masks": store.manifest.masks, "json_points": json_points}
        figures["store_bytes_per_mask"] = sum(entry.bytes for entry in store.manifest.shards) / store.manifest.masks
        counts = sum(len(code) for bag in pool for code in bag.masks.rle) / sum(len(bag.masks) for bag in pool)
        figures["rle_bytes_per_mask"] = counts
        for name, form in (("json", json_of), ("coco_json", coco_json_of), ("uncompressed_json", uncompressed_json_of)):
            figures |= _json_figures(Path(folder) / f"{name}.json", name, form(repeated(pool, json_points)), points)
    for name in ("json", "coco_json", "uncompressed_json"):
        figures[f"store_size_vs_{name}"] = figures[f"{name}_bytes_per_mask"] / figures["store_bytes_per_mask"]
        figures[f"store_boxes_vs_{name}"] = figures[f"{name}_boxes_s"] / figures["store_boxes_s"]
    return {name: round(value, 4) if isinstance(value, float) else value for name, value in figures.items()}


def made_up_bags(count: int) -> list[Bag]:
    """Bags of six nested masks with smooth outlines, as SAM's masks have, all different; 480 x 640 pixels."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    bags = []
    for point_id in range(count):
        x, y, size = rng.uniform(0, WIDTH), rng.uniform(0, HEIGHT), np.exp(rng.uniform(np.log(12), np.log(200)))
        angle, distance = np.arctan2(rows - y, columns - x), np.hypot(rows - y, columns - x)
        outline = 1 + sum(rng.normal(0, 0.25 / k) * np.sin(k * angle + rng.uniform(0, 6.3)) for k in range(1, 12))
        noise = cv2.GaussianBlur(rng.normal(size=(HEIGHT, WIDTH)).astype(np.float32), (0, 0), 4) * 2
        masks = np.stack(
            [distance < np.maximum(size * scale * outline + noise * 4, 2) for scale in np.linspace(0.5, 1.2, MASKS)]
        )
        bags.append(_bag(point_id, (float(x), float(y)), encode_masks(masks), rng))
    return bags


def repeated(pool: list[Bag], points: int) -> Iterator[Bag]:
    """The bags of `pool` over and over under new ids, `PER_IMAGE` to an image."""
    for point_id in range(points // PER_IMAGE * PER_IMAGE):
        image_id = point_id // PER_IMAGE
        bag = pool[point_id % len(pool)]
        yield dataclasses.replace(bag, image_id=image_id, file_name=f"{image_id:012d}.jpg", point_id=point_id)


def write_store(folder: Path, pool: list[Bag], points: int) -> BagStore:
    """The store of `repeated` bags."""
    images = points // PER_IMAGE
    shards = -(-images // SHARD_IMAGES)
    bags = repeated(pool, points)
    identity = BagIdentity("vit_h", "0" * 64, "refined", {}, "float32", "1" * 64, SHARD_IMAGES)
    with open_writer(folder, identity, (Category(1, "thing"),), shards) as writer:
        for index in range(shards):
            size = min(SHARD_IMAGES, images - index * SHARD_IMAGES) * PER_IMAGE
            writer.write_shard(index, [next(bags) for _ in range(size)], {})
        writer.finish({})
    return BagStore.open(folder)


def json_of(bags: Iterator[Bag]) -> Any:
    """Bags as a loop around SamPredictor and pycocotools writes them: an object per mask in a list per point."""
    return [
        {
            "image_id": bag.image_id,
            "file_name": bag.file_name,
            "point_id": bag.point_id,
            "category_id": bag.category_id,
            "point": list(bag.point_xy),
            "masks": [mask | {"segmentation": _rle(bag, place)} for place, mask in enumerate(_columns(bag))],
        }
        for bag in bags
    ]


def coco_json_of(bags: Iterator[Bag]) -> Any:
    """Bags as COCO annotations, one per mask."""
    annotations = [
        {"id": MASKS * bag.point_id + place, "image_id": bag.image_id, "category_id": bag.category_id, "iscrowd": 0}
        | mask
        | {"segmentation": _rle(bag, place), "point_id": bag.point_id, "point": list(bag.point_xy)}
        for bag in bags
        for place, mask in enumerate(_columns(bag))
    ]
    ids = {annotation["image_id"] for annotation in annotations}
    images = [{"id": key, "file_name": f"{key:012d}.jpg", "height": HEIGHT, "width": WIDTH} for key in sorted(ids)]
    return {"images": images, "categories": [{"id": 1, "name": "thing"}], "annotations": annotations}


def uncompressed_json_of(bags: Iterator[Bag]) -> Any:
    """As `json_of` with lists of run lengths, which SAM's own mask generator and COCO's crowds have."""
    document = json_of(bags)
    for point in document:
        for mask in point["masks"]:
            mask["segmentation"]["counts"] = runs_of(mask["segmentation"]["counts"].encode()).tolist()
    return document


def _bag(point_id: int, point_xy: tuple[float, float], rle: list[bytes], rng: np.random.Generator) -> Bag:
    return Bag(
        image_id=0,
        file_name="",
        height=HEIGHT,
        width=WIDTH,
        point_id=point_id,
        category_id=1,
        point_xy=point_xy,
        masks=MaskColumns.from_rle(
            rle,
            HEIGHT,
            WIDTH,
            score=rng.uniform(0.5, 1, MASKS).astype(np.float32),
            stability=rng.uniform(0.5, 1, MASKS).astype(np.float32),
            source=np.array([1, 2, 3, 4, 8, 12], np.int8),
        ),
    )


def _columns(bag: Bag) -> list[dict[str, Any]]:
    """What is known of every mask but its runs; floats in the shortest form that names the float32."""
    masks = bag.masks
    score, stability = (values.astype(str).astype(float).tolist() for values in (masks.score, masks.stability))
    boxes = xyxy_to_xywh(masks.box_xyxy).tolist()
    rows = zip(boxes, masks.area.tolist(), score, stability, masks.source.tolist(), strict=True)
    return [dict(zip(("bbox", "area", "score", "stability", "source"), row, strict=True)) for row in rows]


def _rle(bag: Bag, place: int) -> dict[str, Any]:
    return {"size": [bag.height, bag.width], "counts": bag.masks.rle[place].decode("ascii")}


def _store_seconds(store: BagStore) -> dict[str, Any]:
    """Seconds for the whole store; every reader opens it anew, as a command does."""
    last = store.manifest.shards[-1].last_image_id
    images = iter(np.random.default_rng(0).integers(0, last, 1000).tolist())
    return {
        "store_boxes_s": _median(lambda: BagStore.open(store.folder).read_column("mask_box")),
        "store_scores_s": _median(lambda: BagStore.open(store.folder).read_column("mask_score")),
        "store_table_s": _median(lambda: BagStore.open(store.folder).read_table()),
        "store_image_masks_s": _median(lambda: store.read_masks(next(images)), 25),
    }


def _json_figures(path: Path, name: str, document: Any, points: int) -> dict[str, Any]:
    """Size and seconds of a JSON file: whatever is wanted of it, all of it has to be parsed."""
    path.write_text(json.dumps(document))
    entries = document if isinstance(document, list) else document["annotations"]
    masks = sum(len(entry.get("masks", (0,))) for entry in entries)
    share = points // PER_IMAGE * PER_IMAGE * MASKS / masks
    del document, entries
    seconds = _median(lambda: _boxes_of(json.loads(path.read_bytes())))
    return {f"{name}_bytes_per_mask": path.stat().st_size / masks, f"{name}_boxes_s": share * seconds}


def _boxes_of(document: Any) -> np.ndarray:
    if isinstance(document, dict):
        return np.array([annotation["bbox"] for annotation in document["annotations"]], np.float32)
    return np.array([mask["bbox"] for point in document for mask in point["masks"]], np.float32)


def _median(work: Callable[[], object], times: int = 5) -> float:
    seconds = []
    for _ in range(times):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return float(np.median(seconds))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=COCO_POINTS)
    parser.add_argument("--bags", type=Path, help="A store of real bags to take instead of made-up ones.")
    arguments = parser.parse_args()
    bags = None if arguments.bags is None else list(BagStore.open(arguments.bags).iter_bags())
    sys.stdout.write(json.dumps(store_figures(arguments.points, bags=bags)) + "\n")


if __name__ == "__main__":
    main()
