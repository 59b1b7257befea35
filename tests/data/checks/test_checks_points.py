"""The checks of points files name what is wrong, how often, and go on after it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sapnet_pipe.data.checks.findings import Findings
from sapnet_pipe.data.checks.preflight import check_points
from sapnet_pipe.data.errors import UserError
from sapnet_pipe.data.points.reader import read_points
from tests.data.checks.check_cases import COUNT, HEIGHT, WIDTH, boxes, point_file, write

Edit = Callable[[dict[str, Any]], None]


def _check(path: Path, images: Path | None) -> Findings:
    findings = Findings()
    check_points(path, images, findings, decode=100, quiet=True)
    return findings


def _each(change: Callable[[dict[str, Any]], None]) -> Edit:
    def edit(document: dict[str, Any]) -> None:
        for entry in document["annotations"]:
            change(entry)

    return edit


def _percent(entry: dict[str, Any]) -> None:
    x, y = entry["point"]
    entry["point"] = [100 * x / WIDTH, 100 * y / HEIGHT]


def _large_in_percent(document: dict[str, Any]) -> None:
    """Images of a usual size, so that percent can be told from pixels."""
    for image in document["images"]:
        image["width"], image["height"] = 640, 480
    _each(_percent)(document)


def _coarse_without_point(as_corners: bool) -> Edit:
    def edit(document: dict[str, Any]) -> None:
        for entry, (x1, y1, x2, y2) in zip(document["annotations"], boxes(), strict=True):
            del entry["point"]
            entry["true_bbox"] = [x1, y1, x2 - x1, y2 - y1]
            entry["bbox"] = [x1, y1, x2, y2] if as_corners else [x1, y1, x2 - x1, y2 - y1]

    return edit


def _pointsup(entry: dict[str, Any]) -> None:
    entry["point_coords"], entry["point_labels"] = [[1, 1], entry.pop("point")[::-1]], [0, 1]


def _keypoints(entry: dict[str, Any]) -> None:
    x, y = entry.pop("point")
    entry["keypoints"] = [0, 0, 0, x + WIDTH, y, 2]


def _lvis_names(document: dict[str, Any]) -> None:
    for image in document["images"]:
        image["coco_url"] = f"http://images.cocodataset.org/train2017/{image.pop('file_name')}"


def _turned_sizes(document: dict[str, Any]) -> None:
    for image in document["images"]:
        image["height"], image["width"] = WIDTH, HEIGHT


FAULTS: list[tuple[str, Edit, str, int]] = [
    ("percent", _large_in_percent, "points-in-percent", COUNT),
    ("fractions", _each(lambda e: e.update(point=[e["point"][0] / WIDTH, e["point"][1] / HEIGHT])),
     "points-as-fractions", COUNT),
    ("swapped", _each(lambda e: e.update(point=e["point"][::-1])), "points-swapped", COUNT),
    ("swapped in PointSup", _each(_pointsup), "points-swapped", COUNT),
    ("one off the image", lambda d: d["annotations"][3].update(point=[WIDTH, 5]), "points-off-image", 1),
    ("negative", lambda d: d["annotations"][3].update(point=[-1, 5]), "points-off-image", 1),
    ("keypoints off the image", _each(_keypoints), "points-off-image", COUNT),
    ("a word", lambda d: d["annotations"][2].update(point=["7", 5]), "points-malformed", 1),
    ("three numbers", lambda d: d["annotations"][2].update(point=[1, 2, 3]), "points-malformed", 1),
    ("boxes for clicks as corners", _coarse_without_point(as_corners=True), "boxes-as-corners", COUNT),
    ("no points", _each(lambda e: e.pop("point")), "no-points", 1),
    ("ids clash", _each(lambda e: e.update(id=1)), "annotation-ids-clash", COUNT - 1),
    ("image ids clash", lambda d: d["images"][1].update(id=1), "image-ids-clash", 1),
    ("image ids as text", lambda d: d["images"][0].update(id="1"), "image-ids", 1),
    ("unknown images", lambda d: d["images"].pop(), "unknown-images", 2),
    ("unknown categories", _each(lambda e: e.update(category_id=e["category_id"] - 1)), "unknown-categories", 3),
    ("category ids clash", lambda d: d["categories"][1].update(id=1), "category-ids-clash", 1),
    ("no width", lambda d: d["images"][0].pop("width"), "image-sizes", 1),
    ("name that climbs out", lambda d: d["images"][0].update(file_name="../1.png"), "file-names", 1),
    ("LVIS names", _lvis_names, "file-names-lvis", 3),
    ("photograph missing", lambda d: d["images"][0].update(file_name="none.png"), "photographs-missing", 1),
    ("other size", lambda d: d["images"][0].update(height=2 * HEIGHT, width=2 * WIDTH),
     "photographs-of-another-size", 1),
    ("width and height exchanged", _turned_sizes, "sizes-swapped", 3),
    ("no list of images", lambda d: d.pop("images"), "missing-list", 1),
    ("entry that is a number", lambda d: d["annotations"].append(3), "entries-not-objects", 1),
    ("iscrowd of two", lambda d: d["annotations"][0].update(iscrowd=2, point=[100, 10]), "iscrowd", 1),
]  # fmt: skip

NOTES: list[tuple[str, Edit, str, int]] = [
    ("category without points", lambda d: d["categories"].append({"id": 9, "name": "pot"}),
     "categories-without-points", 1),
    ("image without points", lambda d: d["images"].append({"id": 9, "file_name": "9.png", "height": 5, "width": 5}),
     "images-without-points", 1),
    ("annotation without a point", lambda d: d["annotations"][0].update(point=None), "annotations-without-point", 1),
    ("crowd", lambda d: d["annotations"][0].update(iscrowd=1), "crowds", 1),
    ("names except for capitals", lambda d: d["categories"][1].update(name=" Cup"), "category-names-shared", 1),
    ("two points in one place", lambda d: d["annotations"].append({**d["annotations"][0], "id": 99}),
     "points-doubled", 1),
    ("a point outside its own box", lambda d: d["annotations"][0].update(bbox=[1, 1, 9, 9]),
     "points-beside-their-box", 1),
    ("a box that is text", lambda d: d["annotations"][0].update(bbox="1 1 9 9"), "boxes-malformed", 1),
    ("photograph of no image", lambda d: (d["images"].pop(), d["annotations"].__delitem__(slice(4, 6)))[1],
     "photographs-unnamed", 1),
]  # fmt: skip


@pytest.mark.parametrize(("edit", "kind", "count"), [pytest.param(*case[1:], id=case[0]) for case in FAULTS])
def test_a_fault_is_named_and_counted_and_must_be_fixed(tmp_path: Path, edit: Edit, kind: str, count: int) -> None:
    document = point_file()
    edit(document)
    found = {finding.kind.name: finding for finding in _check(write(tmp_path, document), tmp_path / "images").errors()}
    assert kind in found, found
    assert found[kind].count == count
    assert found[kind].example
    assert found[kind].kind.hint


@pytest.mark.parametrize(("edit", "kind", "count"), [pytest.param(*case[1:], id=case[0]) for case in NOTES])
def test_what_is_only_worth_knowing_need_not_be_fixed(tmp_path: Path, edit: Edit, kind: str, count: int) -> None:
    document = point_file()
    edit(document)
    findings = _check(write(tmp_path, document), tmp_path / "images")
    assert {finding.kind.name: finding.count for finding in findings.warnings()}.get(kind) == count
    assert not findings.errors()
    read_points(tmp_path / "file.json")


@pytest.mark.parametrize("edit", [lambda d: None, _coarse_without_point(as_corners=False)], ids=["points", "coarse"])
def test_a_sound_file_gives_no_finding(tmp_path: Path, edit: Edit) -> None:
    document = point_file()
    edit(document)
    findings = _check(write(tmp_path, document), tmp_path / "images")
    assert not findings.errors()
    assert not findings.warnings()


def test_all_faults_of_a_file_are_told_at_once(tmp_path: Path) -> None:
    document = point_file()
    for edit in (FAULTS[4][1], FAULTS[7][1], FAULTS[11][1], FAULTS[19][1]):
        edit(document)
    kinds = {finding.kind.name for finding in _check(write(tmp_path, document), tmp_path / "images").errors()}
    assert {"points-off-image", "points-malformed", "annotation-ids-clash", "file-names-lvis"} <= kinds


def test_few_clicks_in_a_corner_are_not_taken_for_percent(tmp_path: Path) -> None:
    document = point_file()
    for entry in document["annotations"]:
        entry["point"] = [20.5, 10.5 + entry["id"]]
    assert not _check(write(tmp_path, document), tmp_path / "images").errors()


def test_half_of_the_points_swapped_are_counted_with_a_hint(tmp_path: Path) -> None:
    document = point_file()
    for entry in document["annotations"][:2]:
        entry["point"].reverse()
    (found,) = _check(write(tmp_path, document), tmp_path / "images").errors()
    assert (found.kind.name, found.count, found.of) == ("points-off-image", 2, COUNT)
    assert "2 of them would lie inside with x and y exchanged" in found.example


def test_damaged_photographs_are_found_though_their_header_is_sound(tmp_path: Path) -> None:
    path = write(tmp_path, point_file())
    photograph = tmp_path / "images" / "2.png"
    photograph.write_bytes(photograph.read_bytes()[:-40])
    (found,) = _check(path, tmp_path / "images").errors()
    assert found.kind.name == "photographs-unreadable"
    assert "2.png" in found.example


CSV: list[tuple[str, str, str, int]] = [
    ("percent", "file_name,x,y,category\n" + "".join(f"big.png,{9 * n},{8 * n},cup\n" for n in range(1, 9)),
     "points-in-percent", 8),
    ("swapped", "file_name;x;y;category\n" + "".join(f"1.png;{n},5;{90 + n};cup\n" for n in range(1, 9)),
     "points-swapped", 8),
    ("missing column", "file_name,x,y\n1.png,3,4\n", "csv-header", 1),
    ("a word", "file_name,x,y,category\n1.png,three,4,cup\n1.png,3,4,cup\n", "points-malformed", 1),
    ("a cell too many", "file_name,x,y,category\n1.png,3,4,cup,x\n1.png,3,4,cup\n", "csv-cells", 1),
    ("no category", "file_name,x,y,category\n1.png,3,4,\n1.png,3,4,cup\n", "csv-category", 1),
    ("no photograph", "file_name,x,y,category\n1.jpg,3,4,cup\n1.png,3,4,cup\n", "photographs-missing", 1),
    ("name that climbs out", "file_name,x,y,category\n../none.png,3,4,cup\n1.png,3,4,cup\n", "file-names", 1),
    ("no line", "file_name,x,y,category\n", "no-points", 1),
    ("binary", "\udc89PNG", "unreadable-file", 1),
]  # fmt: skip


@pytest.mark.parametrize(("text", "kind", "count"), [pytest.param(*case[1:], id=case[0]) for case in CSV])
def test_a_fault_of_a_csv_file_is_named_and_counted(tmp_path: Path, text: str, kind: str, count: int) -> None:
    from PIL import Image

    write(tmp_path, point_file())
    Image.new("RGB", (640, 480)).save(tmp_path / "images" / "big.png")
    path = tmp_path / "clicks.csv"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    found = {finding.kind.name: finding.count for finding in _check(path, tmp_path / "images").errors()}
    assert found.get(kind) == count, found


def test_whatever_the_reader_refuses_is_found(tmp_path: Path) -> None:
    """Random damage: if `read_points` refuses a file, the checks must not call it sound."""
    import random

    for seed in range(150):
        draw, document = random.Random(seed), point_file()
        entry = draw.choice([e for key in ("images", "categories", "annotations") for e in document[key]])
        key = draw.choice(sorted(entry))
        entry[key] = draw.choice([None, -1, 0, 1.5, "x", "", [], [1], {}, True, 2**70, [1e9, 2], "a/../b", [True, 1]])
        path = write(tmp_path, document)
        try:
            read_points(path)
        except UserError:
            assert _check(path, None).errors(), json.dumps(entry)
