"""A small set with every kind of mask: with a hole, of two parts, of one pixel, of a whole image, overlapping."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sapnet_pipe.data.coco.masks import Mask, encode_mask

CLASSES = ("cat", 'röd "kopp" <&> \\ 1', "emoji 🐈")
SIZE = (40, 60)  # height, width


def box(left: int, top: int, right: int, bottom: int) -> Mask:
    """A box of True, right and bottom exclusive."""
    mask = np.zeros(SIZE, np.bool_)
    mask[top:bottom, left:right] = True
    return mask


def disk(x: int, y: int, radius: int) -> Mask:
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    return np.asarray((columns - x) ** 2 + (rows - y) ** 2 < radius**2)


MASKS: dict[str, tuple[int, str, int, Mask]] = {
    # name: image, file name, class index, mask; images 3 and 5 are empty and full
    "ten": (1, "a.jpg", 0, disk(8, 10, 5)),
    "hole": (1, "a.jpg", 1, disk(30, 20, 12) & ~disk(30, 20, 6)),
    "parts": (1, "a.jpg", 2, box(48, 2, 58, 12) | box(48, 20, 58, 30)),
    "pixel": (2, "sub dir/b ö.png", 0, box(59, 39, 60, 40)),
    "box": (2, "sub dir/b ö.png", 1, box(0, 0, 7, 5)),
    "large": (4, "d.png", 0, box(5, 5, 35, 35)),
    "small": (4, "d.png", 0, box(10, 10, 20, 20)),
    "full": (5, "e.jpg", 2, np.ones(SIZE, np.bool_)),
}
NAMES = {1: "a.jpg", 2: "sub dir/b ö.png", 3: "c.jpg", 4: "d.png", 5: "e.jpg"}


def mask_of(number: int) -> Mask:
    """The mask of the object with this id, from 1 in the order of `MASKS`."""
    return list(MASKS.values())[number - 1][3]


def document() -> dict[str, Any]:
    """The set as pseudo labels."""
    height, width = SIZE
    annotations = [
        {
            "id": number,
            "image_id": image_id,
            "category_id": 10 * (class_index + 1),
            "segmentation": {"size": [height, width], "counts": encode_mask(mask).decode()},
            "score": round(0.9 - 0.1 * number, 3),
            "alternates": [],
        }
        for number, (image_id, _, class_index, mask) in enumerate(MASKS.values(), 1)
    ]
    return {
        "images": [{"id": key, "file_name": name, "height": height, "width": width} for key, name in NAMES.items()],
        "categories": [{"id": 10 * (index + 1), "name": name} for index, name in enumerate(CLASSES)],
        "annotations": annotations,
    }


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    """The set as a file."""
    path = tmp_path / "pseudo_labels.json"
    path.write_text(json.dumps(document()), encoding="utf-8")
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """The folder of its photographs."""
    folder = tmp_path / "photos"
    for number, name in NAMES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (SIZE[1], SIZE[0]), (40 * number, 90, 200)).save(path)
    return folder
