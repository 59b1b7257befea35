"""A small valid COCO file to break in one place at a time, and the real photographs where they are at hand."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.places import SHARED


@pytest.fixture
def instances() -> dict[str, Any]:
    """Two images (the second without objects), two categories, a polygon, an uncompressed RLE and a crowd."""
    square = [2.0, 2.0, 6.0, 2.0, 6.0, 6.0, 2.0, 6.0]
    shapes: list[Any] = [[square], {"size": [10, 20], "counts": [100, 50, 50]}, {"size": [10, 20], "counts": [0, 200]}]
    return {
        "images": [
            {"id": 7, "file_name": "b/seven.png", "height": 10, "width": 20},
            {"id": 3, "file_name": "three.png", "height": 8, "width": 8},
        ],
        "categories": [{"id": 9, "name": "cup"}, {"id": 4, "name": "cat"}],
        "annotations": [
            {"id": 30 - i, "image_id": 7, "category_id": 9 if i else 4, "segmentation": shape, "iscrowd": int(i == 2)}
            for i, shape in enumerate(shapes)
        ],
    }


@pytest.fixture
def points_document(instances: dict[str, Any]) -> dict[str, Any]:
    """The same images, with a point for every annotation instead of a mask."""
    for entry in instances["annotations"]:
        del entry["segmentation"]
        entry["point"] = [4.25, 5]
    return instances


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Path]:
    """Write a value as JSON (NaN allowed, as careless tools do) and return the file."""

    def write(value: Any, name: str = "given.json") -> Path:
        path = tmp_path / name
        path.write_text(json.dumps(value), encoding="utf-8")
        return path

    return write


@pytest.fixture(scope="session")
def tiny_coco() -> Path:
    """Folder of 38 COCO photographs; skips where it is absent."""
    folder = SHARED / "data" / "tiny-coco"
    if not folder.is_dir():
        pytest.skip(f"no photographs in {folder}: set SAPNET_SHARED to the folder that holds data/tiny-coco")
    return folder
