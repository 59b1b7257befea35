"""Small files with one thing wrong each, made from a sound one; for the checks of `doctor`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sapnet_pipe.data.files import write_json

HEIGHT, WIDTH, COUNT = 48, 160, 6
Edit = Callable[[dict[str, Any]], None]


def boxes() -> list[tuple[int, int, int, int]]:
    """XYXY of the objects, two an image; wide images, so that an exchange of x and y shows."""
    return [(90 + 10 * n, 6 + 3 * n, 110 + 10 * n, 20 + 4 * n) for n in range(COUNT)]


def point_file() -> dict[str, Any]:
    """A sound points file of three images."""
    document = _frame()
    for n, (x1, y1, x2, y2) in enumerate(boxes()):
        document["annotations"].append(_ids(n) | {"point": [(x1 + x2) / 2, (y1 + y2) / 2]})
    return document


def label_file() -> dict[str, Any]:
    """A sound label file of the same objects: polygons, boxes, areas."""
    document = _frame()
    for n, (x1, y1, x2, y2) in enumerate(boxes()):
        mask = {"segmentation": [[x1, y1, x2, y1, x2, y2, x1, y2]], "bbox": [x1, y1, x2 - x1, y2 - y1]}
        document["annotations"].append(_ids(n) | mask)
    return document


def mask_of(n: int) -> np.ndarray:
    """(HEIGHT, WIDTH) uint8 mask of object `n`."""
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    x1, y1, x2, y2 = boxes()[n]
    mask[y1:y2, x1:x2] = 1
    return mask


def runs(flat: np.ndarray) -> list[int]:
    """Lengths of alternating runs of a flat 0/1 array, beginning with 0."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flat.astype(int), [1 - int(flat[-1])]])))
    lengths = np.diff(np.concatenate([[0], edges])).tolist()
    return [int(length) for length in lengths]


def write(folder: Path, document: dict[str, Any], name: str = "file.json") -> Path:
    """Write the file and its photographs (once); the file's path."""
    (folder / "images").mkdir(exist_ok=True)
    for image in range(1, COUNT // 2 + 1):
        path = folder / "images" / f"{image}.png"
        if not path.exists():
            Image.fromarray(np.full((HEIGHT, WIDTH, 3), 40 * image, np.uint8)).save(path)
    write_json(folder / name, document)
    return folder / name


def _frame() -> dict[str, Any]:
    images = [{"id": n, "file_name": f"{n}.png", "height": HEIGHT, "width": WIDTH} for n in range(1, COUNT // 2 + 1)]
    return {"images": images, "categories": [{"id": 1, "name": "cup"}, {"id": 2, "name": "jug"}], "annotations": []}


def _ids(n: int) -> dict[str, Any]:
    return {"id": n + 1, "image_id": n // 2 + 1, "category_id": n % 2 + 1, "iscrowd": 0}
