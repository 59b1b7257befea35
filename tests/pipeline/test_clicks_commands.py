"""Clicks of another tool to points, a hold-out, a verdict from clicks, and counts, as commands."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from sapnet_pipe.data.coco.masks import encode_mask
from sapnet_pipe.pipeline.cli import run


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "photos").mkdir()
    lines = ["images,x,y,labels"]
    for number in range(10):
        Image.new("RGB", (40, 20)).save(tmp_path / "photos" / f"{number}.png")
        lines += [f"{number}.png,5,5,cat", f"{number}.png,30,10,dog"]
    (tmp_path / "clicks.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


def last_line(capsys):
    return json.loads(capsys.readouterr().out.strip().splitlines()[-1])


def points(folder, *more):
    words = ["--points", folder / "clicks.csv", "--images", folder / "photos", "--out", folder / "points.json"]
    return run(["points", *map(str, words), "--json", *more])


def predictions(folder, image_id=1):
    """Both objects of the photograph 0.png, the dog twice."""
    entries = []
    for category_id, score, box in ((1, 0.9, (0, 0, 10, 10)), (2, 0.8, (25, 5, 35, 15)), (2, 0.7, (26, 5, 35, 15))):
        mask = np.zeros((20, 40), bool)
        mask[box[1] : box[3], box[0] : box[2]] = True
        rle = {"size": [20, 40], "counts": encode_mask(mask).decode()}
        entries.append({"image_id": image_id, "category_id": category_id, "score": score, "segmentation": rle})
    path = folder / "predictions.json"
    path.write_text(json.dumps(entries))
    images = [{"id": n + 1, "file_name": f"{n}.png", "width": 40, "height": 20} for n in range(10)]
    categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    names = {"images": images, "categories": categories, "annotations": []}
    (folder / "predictions.images.json").write_text(json.dumps(names))
    return path


def test_points_of_another_tool_are_written_as_coco(folder, capsys):
    assert points(folder) == 0
    result = last_line(capsys)
    assert (result["points"], result["images"], result["categories"]) == (20, 10, 2)
    assert "HerdNet" in result["notes"][0]


def test_a_hold_out_splits_by_photograph(folder, capsys):
    assert points(folder, "--hold-out", "0.2") == 0
    assert last_line(capsys)["held_out"]["images"] == 2
    names = [
        {image["file_name"] for image in json.loads((folder / name).read_text())["images"]}
        for name in ("points.json", "points.held_out.json")
    ]
    assert [len(one) for one in names] == [8, 2]
    assert not names[0] & names[1]


def test_points_want_one_source(folder, capsys):
    assert run(["points", "--out", str(folder / "p.json")]) == 2
    assert "--annotations or --points" in capsys.readouterr().err


def evaluate(folder, *more):
    words = ["--points", folder / "clicks.csv", "--images", folder / "photos", "--predictions", predictions(folder)]
    return run(["evaluate", *map(str, words), "--json", *more])


def test_a_verdict_from_clicks_has_a_table_files_and_a_plot(folder, capsys):
    assert evaluate(folder, "--out", str(folder / "verdict"), "--exhaustive") == 0
    result = last_line(capsys)
    assert (result["threshold"], result["found"], result["missed"], result["doubled"]) == (0.75, 2, 18, 0)
    assert result["by_threshold"]["0.5"]["doubled"] == 1
    with (folder / "verdict" / "counts.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert rows[0] == {"image": "0.png", "class": "cat", "clicks": "1", "predictions": "1"}
    assert len(rows) == 20
    assert Image.open(folder / "verdict" / "counts.png").size == (780, 600)


def test_a_verdict_wants_predictions(folder, capsys):
    assert run(["evaluate", "--points", str(folder / "clicks.csv")]) == 2
    assert "--predictions" in capsys.readouterr().err


def test_counts_have_a_line_for_every_photograph_and_class(folder, capsys):
    words = ["--predictions", predictions(folder), "--out", folder / "counts.csv", "--json"]
    assert run(["count", *map(str, words), "--threshold", "0.75"]) == 0
    result = last_line(capsys)
    assert (result["counted"], result["below_threshold"]) == (2, 1)
    with (folder / "counts.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 20
    assert rows[0] == {"image": "0.png", "class": "cat", "count": "1", "area_pixels": "100", "area_share": "0.125"}
    assert rows[-1]["count"] == "0"


def test_counts_of_predictions_whose_photographs_are_not_named_are_refused(folder, capsys):
    path = predictions(folder)
    (folder / "predictions.images.json").unlink()
    assert run(["count", "--predictions", str(path), "--out", str(folder / "c.csv")]) == 2
    assert "predictions.images.json" in capsys.readouterr().err
