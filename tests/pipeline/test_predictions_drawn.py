"""Pictures of predictions, one a photograph, and the grid of some of them."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sapnet_pipe.data.coco.instances import ImageRecord
from sapnet_pipe.data.coco.masks import encode_mask
from sapnet_pipe.pipeline.pictures.predictions import GRID, draw_predictions


def drawn(tmp_path: Path, names: list[str]) -> Path:
    """Photographs of 40 x 20 pixels with one instance each, all drawn."""
    records, lines = [], []
    mask = np.zeros((20, 40), bool)
    mask[5:15, 5:25] = True
    for image_id, name in enumerate(names, 1):
        Image.fromarray(np.full((20, 40, 3), 60, np.uint8)).save(tmp_path / name)
        records.append(ImageRecord(image_id, name, 20, 40))
        found = {"image_id": image_id, "category_id": 1, "score": 0.9, "bbox": [5, 5, 20, 10]}
        lines.append(json.dumps({**found, "segmentation": {"size": [20, 40], "counts": encode_mask(mask).decode()}}))
    (tmp_path / "predictions.json").write_text("[\n" + ",\n".join(lines) + "\n]")
    out = tmp_path / "drawn"
    count = draw_predictions(
        tmp_path / "predictions.json", records, tmp_path, out, names={1: "cup"}, min_score=0.3, quiet=True
    )
    assert count == len(names)
    return out


@pytest.mark.parametrize(("count", "tiles"), [(2, (2, 1)), (5, (4, 2)), (GRID + 3, (4, GRID // 4))])
def test_the_grid_holds_some_of_the_pictures(tmp_path: Path, count: int, tiles: tuple[int, int]) -> None:
    out = drawn(tmp_path, [f"{number}.png" for number in range(count)])
    with Image.open(out / "grid.png") as grid:
        assert grid.size == (400 * tiles[0], 300 * tiles[1])
    assert len(list(out.iterdir())) == count + 1


def test_one_photograph_needs_no_grid(tmp_path: Path) -> None:
    assert [path.name for path in drawn(tmp_path, ["a.png"]).iterdir()] == ["a.png"]


def test_a_photograph_that_is_called_like_the_grid_keeps_its_picture(tmp_path: Path) -> None:
    out = drawn(tmp_path, ["grid.png", "b.png"])
    assert sorted(path.name for path in out.iterdir()) == ["all-grid.png", "b.png", "grid.png"]
    with Image.open(out / "grid.png") as picture:
        assert picture.size == (40, 20)
