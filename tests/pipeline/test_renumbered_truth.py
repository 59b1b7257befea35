"""What is measured does not hang on numbers: the same content numbered otherwise gives the same figures everywhere."""

import csv
import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sapnet_pipe.data.files import read_json, write_json
from sapnet_pipe.pipeline.cli import run
from tests.pipeline.toy_job import BAGS

Document = dict[str, Any]


def renumber_images(truth: Document) -> None:
    numbers = {image["id"]: 40 - 7 * image["id"] for image in truth["images"]}
    for image in truth["images"]:
        image["id"] = numbers[image["id"]]
    for entry in truth["annotations"]:
        entry["image_id"] = numbers[entry["image_id"]]


def turn_images_round(truth: Document) -> None:
    """The same numbers for other photographs."""
    for image in truth["images"]:
        image["id"] = 5 - image["id"]
    for entry in truth["annotations"]:
        entry["image_id"] = 5 - entry["image_id"]


def renumber_objects(truth: Document) -> None:
    """The same numbers for other objects."""
    for entry in truth["annotations"]:
        entry["id"] = 9 - entry["id"]


def exchange_categories(truth: Document) -> None:
    truth["categories"] = [{"id": 30 - entry["id"], "name": entry["name"]} for entry in truth["categories"]]
    for entry in truth["annotations"]:
        entry["category_id"] = 30 - entry["category_id"]


def list_categories_backwards(truth: Document) -> None:
    truth["categories"].reverse()
    truth["annotations"].reverse()
    truth["images"].reverse()


def write_names_otherwise(truth: Document) -> None:
    for image in truth["images"]:
        image["file_name"] = f"photos\\{image['file_name'].upper()}"


def list_photographs_twice(truth: Document) -> None:
    for image in list(truth["images"]):
        truth["images"].append(image | {"id": image["id"] + 100})
    for entry in list(truth["annotations"]):
        truth["annotations"].append(entry | {"id": entry["id"] + 100, "image_id": entry["image_id"] + 100})


def everything(truth: Document) -> None:
    for change in CHANGES[:-1]:
        change(truth)


CHANGES: list[Callable[[Document], None]] = [
    turn_images_round,
    renumber_objects,
    exchange_categories,
    list_categories_backwards,
    write_names_otherwise,
    list_photographs_twice,
    renumber_images,
    everything,
]


def result_of(line: str, capfd: pytest.CaptureFixture[str]) -> Document:
    capfd.readouterr()
    assert run([*shlex.split(line), "--json", "--quiet"]) == 0, line
    found: Document = json.loads(capfd.readouterr().out)
    return found


def figures(truth: str, run_dir: str, capfd: pytest.CaptureFixture[str], bags: str = "bags") -> Document:
    """What every command that compares says, without the counts of how objects were found."""
    ap = result_of(f"evaluate --truth {truth} --predictions folder.json", capfd)
    labels = result_of(f"evaluate --truth {truth} --labels {run_dir}/pseudo_labels.json", capfd)
    inspected = result_of(f"bags inspect {bags} --truth {truth}", capfd)
    line = (
        f"select --bags {bags} --images images --out oracle-{Path(truth).stem}-{bags} --method oracle --truth {truth}"
    )
    oracle = result_of(line, capfd)
    for counts in (labels, *oracle["quality"].values()):
        assert counts.pop("by_id") + counts.pop("by_click") == counts["count"] == 8
    return _rounded(
        {"segm": ap["segm"], "bbox": ap["bbox"], "labels": labels, "bags": inspected["quality"]}
        | {"select": oracle["quality"]}
    )


def _rounded(values: Document) -> Document:
    """Mappings of mappings of numbers, to six digits."""
    figures = {key: value for key, value in values.items() if key != "notes"}
    return {key: _rounded(value) if isinstance(value, dict) else round(value, 6) for key, value in figures.items()}


@pytest.fixture
def measured(job: Path) -> Path:
    """The finished job, and folder.json: good but not perfect predictions in the numbers of the folder."""
    truth = read_json(job / "truth.json")
    found = []
    for entry in truth["annotations"]:
        shift = entry["id"] % 4
        corners = [value + shift * (place % 2 == 0) for place, value in enumerate(entry["segmentation"][0])]
        box = [min(corners[::2]), min(corners[1::2]), 22, 20]
        common = {"image_id": 5 - entry["image_id"], "category_id": entry["category_id"], "score": entry["id"] / 9}
        found.append(common | {"segmentation": [corners], "bbox": box})
    for image in truth["images"]:
        image["id"] = 5 - image["id"]
    write_json(job / "folder.json", found)
    write_json(job / "folder.images.json", truth | {"annotations": []})
    return job


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_every_command_says_the_same(
    measured: Path, capfd: pytest.CaptureFixture[str], change: Callable[[Document], None]
) -> None:
    plain = figures("truth.json", "run", capfd)
    truth = read_json(measured / "truth.json")
    change(truth)
    write_json(measured / "other.json", truth)
    assert figures("other.json", "run", capfd) == plain
    ap = result_of("evaluate --truth other.json --predictions folder.json", capfd)
    assert 0.3 < ap["segm"]["AP"] < 1
    assert (ap["images_matched_by"], ap["images"]) == ("file_name", 4)


@pytest.mark.parametrize("with_ids", [False, True], ids=["by line", "with ids"])
def test_clicks_of_a_table_are_measured_like_those_of_coco(
    measured: Path, capfd: pytest.CaptureFixture[str], with_ids: bool
) -> None:
    points = read_json(measured / "points.json")
    names = {image["id"]: image["file_name"] for image in points["images"]}
    kinds = {category["id"]: category["name"] for category in points["categories"]}
    with (measured / "clicks.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["file_name", "x", "y", "category", "id" if with_ids else "remark"])
        for entry in reversed(points["annotations"]):
            table.writerow([names[entry["image_id"]], *entry["point"], kinds[entry["category_id"]], entry["id"]])
    assert run(shlex.split(BAGS.replace("points.json", "clicks.csv") + " --out table")) == 0
    line = "select --bags table --images images --out chosen --method sam-top1 --truth truth.json"
    assert result_of(line, capfd)["matched"]["by_id"] == (8 if with_ids else 0)
    assert run(shlex.split("select --bags bags --images images --out plain --method sam-top1 --quiet")) == 0
    assert figures("truth.json", "chosen", capfd, "table") == figures("truth.json", "plain", capfd)


def test_predictions_say_how_they_are_measured(measured: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (measured / "new").mkdir()
    assert run(shlex.split("predict --run seg --images images --out new/p.json")) == 0
    following = capfd.readouterr().out.splitlines()[-1]
    assert following == "Next: sapnet-pipe evaluate --truth TRUTH.json --predictions new/p.json"
    assert result_of("evaluate --truth truth.json --predictions new/p.json", capfd)["images_matched_by"] == "file_name"


def test_numbers_without_names_that_may_be_those_of_a_folder_are_doubted(
    measured: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    truth = read_json(measured / "truth.json")
    turn_images_round(truth)
    write_json(measured / "other.json", truth)
    (measured / "folder.images.json").unlink()
    assert run(shlex.split("evaluate --truth other.json --predictions folder.json")) == 0
    assert "put its folder.images.json beside it" in capfd.readouterr().out
