"""A set of four small photographs with eight objects, and settings with which every stage takes a second on it."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sapnet_pipe.data.files import write_json

SIDE = 64
OBJECTS = (("red", 6, 8, (220, 60, 50)), ("blue", 36, 34, (60, 90, 220)))

BAGS = "generate-bags --images images --points points.json --sam tiny --device cpu --set shard_images=2 --quiet"
SELECT = (
    "select --bags bags --images images --preset demo --quiet --set train.max_iterations=2 --set train.batch_size=2 "
    "--set image.short_side=64 --set image.long_side=64 --set backbone.width=16 --set head.channels=16 "
    "--set train.log_every=1 --set negatives.random_boxes=10"
)
TRAIN = (
    "train-seg --images images --preset demo --engine builtin --device cpu --quiet --set train.max_iterations=2 "
    "--set train.batch_size=2 --set image.short_sides=[64] --set image.long_side=64 --set backbone.width=16 "
    "--set train.log_every=1 --set test.short_side=64 --set test.long_side=64 --set test.score_threshold=0 "
    "--set test.update_threshold=0 --set test.max_per_image=3"
)


def write_toy(folder: Path) -> None:
    """Write ``images/1.png ... 4.png``, ``truth.json`` with masks and ``points.json`` with a click per object."""
    images = [{"id": n, "file_name": f"{n}.png", "height": SIDE, "width": SIDE} for n in range(1, 5)]
    categories = [{"id": 10 * k, "name": name} for k, (name, *_) in enumerate(OBJECTS, 1)]
    masks: list[dict[str, Any]] = []
    points: list[dict[str, Any]] = []
    rng = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    for image in images:
        pixels = rng.integers(90, 130, (SIDE, SIDE, 3)).astype(np.uint8)
        for category, (_, x, y, colour) in zip(categories, OBJECTS, strict=True):
            pixels[y : y + 20, x : x + 22] = colour
            common = {"id": len(masks) + 1, "image_id": image["id"], "category_id": category["id"], "iscrowd": 0}
            masks.append(common | {"segmentation": [[x, y, x + 22, y, x + 22, y + 20, x, y + 20]]})
            points.append(common | {"point": [x + 11.5, y + 10.25]})
        Image.fromarray(pixels).save(folder / "images" / str(image["file_name"]))
    write_json(folder / "truth.json", {"images": images, "categories": categories, "annotations": masks})
    write_json(folder / "points.json", {"images": images, "categories": categories, "annotations": points})


def snapshot(folder: Path) -> dict[str, bytes | None]:
    """Every file below a folder with its bytes, and every folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }
