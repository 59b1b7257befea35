"""Drawn photographs with exact masks, and settings small enough for a test."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sapnet_pipe.data.coco.masks import encode_mask
from sapnet_pipe.data.files import write_json
from sapnet_pipe.stages.segment.config import SegmentConfig

COLOURS = ((220, 60, 50), (60, 190, 80), (70, 90, 230))


def draw_scene(
    rng: np.random.Generator, size: tuple[int, int], count: int
) -> tuple[NDArray[np.uint8], list[tuple[int, NDArray[np.bool_]]]]:
    """A photograph (H, W, 3) with `count` squares, discs and diamonds, and (class index, visible mask) of each."""
    height, width = size
    image = rng.integers(90, 130, (height, width, 3)).astype(np.uint8)
    owner = np.full(size, -1)
    rows, columns = np.mgrid[:height, :width]
    kinds = rng.integers(0, 3, count)
    for index, kind in enumerate(kinds):
        radius = int(rng.integers(9, 18))
        y, x = int(rng.integers(radius, height - radius)), int(rng.integers(radius, width - radius))
        dy, dx = abs(rows - y), abs(columns - x)
        inside = (np.maximum(dy, dx), np.hypot(dy, dx), dy + dx)[kind] <= radius
        owner[inside] = index
        image[inside] = COLOURS[kind]
    return image, [(int(kind), owner == index) for index, kind in enumerate(kinds) if (owner == index).sum() > 30]


def write_scenes(
    folder: Path,
    counts: list[int],
    *,
    size: tuple[int, int] = (96, 128),
    seed: int = 0,
    alternates: bool = False,
    crowd: bool = False,
) -> Path:
    """Write one scene per entry of `counts` (its number of objects) and a COCO instances file; returns the file."""
    rng = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, count in enumerate(counts, 1):
        pixels, objects = draw_scene(rng, size, count)
        Image.fromarray(pixels).save(folder / "images" / f"{number:03}.png")
        images.append({"id": number, "file_name": f"{number:03}.png", "height": size[0], "width": size[1]})
        for kind, mask in objects:
            annotation: dict[str, Any] = {
                "id": len(annotations) + 1, "image_id": number, "category_id": 10 * (kind + 1), "iscrowd": 0,
                "segmentation": _rle(mask), "area": int(mask.sum()),
            }  # fmt: skip
            if alternates:
                annotation["alternates"] = [_rle(mask | np.roll(mask, 9, 1)), _rle(mask & np.roll(mask, 5, 0))]
            annotations.append(annotation)
        if crowd:
            whole = np.ones(size, bool)
            annotations.append(
                {"id": len(annotations) + 1, "image_id": number, "category_id": 10, "iscrowd": 1,
                 "segmentation": _rle(whole)}
            )  # fmt: skip
    categories = [{"id": 10 * (index + 1), "name": name} for index, name in enumerate(("square", "disc", "diamond"))]
    write_json(folder / "labels.json", {"images": images, "annotations": annotations, "categories": categories})
    return folder / "labels.json"


def tiny_config(**changes: Any) -> SegmentConfig:
    """A network of two levels on 128-pixel images; `changes` are laid over section by section."""
    values: dict[str, Any] = {
        "engine": "builtin",
        "device": "cpu",
        "backbone": {"name": "resnet10", "width": 16, "weights": "none", "norm": "bn", "fpn_channels": 16},
        "head": {
            "features": ["p3", "p4"], "strides": [8, 16], "num_grids": [12, 8], "scale_ranges": [[1, 32], [20, 256]],
            "instance_channels": 16, "instance_convs": 1, "mask_channels": 16, "kernel_channels": 16, "norm_groups": 4,
        },
        "image": {"short_sides": [96], "long_side": 128},
        "train": {
            "max_iterations": 3, "batch_size": 2, "lr": 0.003, "optimizer": "adamw", "warmup_iterations": 0,
            "scheduler": "cosine", "checkpoint_every": 2, "log_every": 1,
        },
        "test": {"short_side": 96, "long_side": 128},
    }  # fmt: skip
    for section, change in changes.items():
        values[section] = {**values.get(section, {}), **change} if isinstance(change, dict) else change
    return SegmentConfig.model_validate(values)


def _rle(mask: NDArray[np.bool_]) -> dict[str, Any]:
    return {"size": list(mask.shape), "counts": encode_mask(mask).decode("ascii")}
