"""The checks of label files tell COCO's masks and boxes from those of other programs."""

import base64
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sapnet_pipe.data.checks.findings import Findings
from sapnet_pipe.data.checks.preflight import check_labels
from sapnet_pipe.data.coco.masks import encode_mask
from sapnet_pipe.data.labels.pseudo_labels import read_pseudo_labels
from tests.data.checks.check_cases import COUNT, HEIGHT, WIDTH, boxes, label_file, mask_of, runs, write

SIZE = [HEIGHT, WIDTH]
Make = Callable[[int], Any]


def _check(path: Path, images: Path | None = None) -> Findings:
    findings = Findings()
    check_labels(path, images, findings, decode=100, quiet=True)
    return findings


def _code(n: int) -> bytes:
    return encode_mask(mask_of(n).astype(bool))


def _kaggle(n: int) -> str:
    lengths = runs(mask_of(n).T.ravel())
    starts = np.cumsum(lengths)[:-1:2] + 1
    return " ".join(f"{start} {length}" for start, length in zip(starts, lengths[1::2], strict=False))


def _cvat(n: int) -> list[int]:
    x1, y1, x2, y2 = boxes()[n]
    return [0, (x2 - x1) * (y2 - y1), x1, y1, x2 - 1, y2 - 1]


DIALECTS: list[tuple[str, Make, str]] = [
    ("bytes as text", lambda n: {"size": SIZE, "counts": str(_code(n))}, "masks-bytes-as-text"),
    ("base64 of zlib, as Open Images", lambda n: {"size": SIZE, "counts": base64.b64encode(
        zlib.compress(_code(n))).decode()}, "masks-base64"),
    ("start and length, as Kaggle", _kaggle, "masks-start-length"),
    ("start and length in a list", lambda n: {"size": SIZE, "counts": [int(v) for v in _kaggle(n).split()]},
     "masks-start-length"),
    ("bytes as numbers", lambda n: {"size": SIZE, "counts": list(_code(n))}, "masks-bytes-as-numbers"),
    ("Label Studio", lambda n: {"rle": [0, 0, 120, 0, 7, 7, 7]}, "masks-label-studio"),
    ("Label Studio's bytes for counts", lambda n: {"size": SIZE, "counts": [
        *(4 * HEIGHT * WIDTH).to_bytes(4, "big"), 7, 200, 13]}, "masks-label-studio"),
    ("CVAT", _cvat, "masks-cvat"),
    ("array of uint8", lambda n: mask_of(n).tolist(), "masks-dense"),
    ("array of bool", lambda n: mask_of(n).astype(bool).tolist(), "masks-dense"),
    ("flat array for counts", lambda n: {"size": SIZE, "counts": mask_of(n).ravel().tolist()}, "masks-dense"),
    ("row by row", lambda n: {"size": SIZE, "counts": runs(mask_of(n).ravel())}, "masks-row-major"),
    ("object first", lambda n: {"size": SIZE, "counts": runs(1 - mask_of(n).T.ravel())}, "masks-inverted"),
    ("size exchanged", lambda n: {"size": SIZE[::-1], "counts": _code(n).decode()}, "masks-size-swapped"),
    ("of another size", lambda n: {"size": [9, 9], "counts": [81]}, "masks-of-another-size"),
    ("without a size", lambda n: {"counts": _code(n).decode()}, "masks-without-size"),
    ("one flat polygon", lambda n: [3, 3, 9, 3, 9, 9], "masks-polygon-flat"),
    ("runs of floats", lambda n: {"size": SIZE, "counts": [float(r) for r in runs(mask_of(n).T.ravel())]},
     "masks-float-runs"),
    ("fractions", lambda n: [[0.1, 0.1, 0.5, 0.1, 0.5, 0.7]], "polygons-as-fractions"),
    ("damaged code", lambda n: {"size": SIZE, "counts": "~~~"}, "masks-malformed"),
    ("two corners", lambda n: [[1, 2, 3, 4]], "masks-missing"),
    ("none", lambda n: None, "masks-missing"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "kind"), [pytest.param(*case[1:], id=case[0]) for case in DIALECTS])
def test_masks_of_another_program_are_recognised_and_counted(tmp_path: Path, make: Make, kind: str) -> None:
    document = label_file()
    for n, entry in enumerate(document["annotations"]):
        entry["segmentation"] = make(n)
    found = {finding.kind.name: finding.count for finding in _check(write(tmp_path, document)).errors()}
    assert found == {kind: COUNT}


def test_runs_row_by_row_are_recognised_without_a_box_too(tmp_path: Path) -> None:
    document = label_file()
    for n, entry in enumerate(document["annotations"]):
        del entry["bbox"]
        entry["segmentation"] = {"size": SIZE, "counts": runs(mask_of(n).ravel())}
    found = {finding.kind.name: finding.count for finding in _check(write(tmp_path, document)).errors()}
    assert found == {"masks-row-major": COUNT}


SOUND: list[tuple[str, Make]] = [
    ("polygons", lambda n: label_file()["annotations"][n]["segmentation"]),
    ("runs", lambda n: {"size": SIZE, "counts": runs(mask_of(n).T.ravel())}),
    ("compressed", lambda n: {"size": SIZE, "counts": _code(n).decode()}),
]


@pytest.mark.parametrize("with_box", [True, False])
@pytest.mark.parametrize("make", [pytest.param(case[1], id=case[0]) for case in SOUND])
def test_cocos_own_masks_give_no_finding(tmp_path: Path, make: Make, with_box: bool) -> None:
    document = label_file()
    for n, entry in enumerate(document["annotations"]):
        entry["segmentation"] = make(n)
        if not with_box:
            del entry["bbox"]
    findings = _check(write(tmp_path, document), tmp_path / "images")
    assert not findings.errors()
    assert not findings.warnings()


def _boxes(reading: Callable[[float, float, float, float], list[float]]) -> dict[str, Any]:
    document = label_file()
    for entry in document["annotations"]:
        entry["bbox"] = reading(*entry["bbox"])
    return document


def test_corner_boxes_are_told_by_their_masks(tmp_path: Path) -> None:
    path = write(tmp_path, _boxes(lambda x, y, w, h: [x, y, x + w, y + h]))
    assert [(f.kind.name, f.count) for f in _check(path).warnings()] == [("boxes-as-corners", COUNT)]


def test_centre_boxes_are_told_by_their_masks(tmp_path: Path) -> None:
    path = write(tmp_path, _boxes(lambda x, y, w, h: [x + w / 2, y + h / 2, w, h]))
    assert [(f.kind.name, f.count) for f in _check(path).warnings()] == [("boxes-as-centres", COUNT)]


def test_corner_boxes_are_told_without_masks_by_the_image_they_leave(tmp_path: Path) -> None:
    document = _boxes(lambda x, y, w, h: [x, y, x + w, y + h])
    for entry in document["annotations"]:
        del entry["segmentation"]
    found = {finding.kind.name for finding in _check(write(tmp_path, document)).warnings()}
    assert "boxes-as-corners" in found


@pytest.mark.parametrize(
    ("box", "kind"),
    [
        ([1, 2, 3], "boxes-malformed"),
        ([9, 9, -3, 4], "boxes-negative"),
        ([9, 9, 0, 4], "boxes-flat"),
        ([150, 9, 60, 4], "boxes-off-image"),
    ],
)
def test_a_box_that_is_none_is_named(tmp_path: Path, box: list[float], kind: str) -> None:
    document = label_file()
    document["annotations"][2]["bbox"] = box
    findings = _check(write(tmp_path, document))
    assert not findings.errors()
    assert findings.warnings()[0].kind.name == kind


def test_a_mask_of_another_object_is_told_by_its_box(tmp_path: Path) -> None:
    document = label_file()
    document["annotations"][2]["segmentation"] = [[1, 1, 9, 1, 9, 9]]
    assert [f.kind.name for f in _check(write(tmp_path, document)).warnings()] == ["masks-beside-their-box"]


def test_empty_masks_and_crowds_are_counted_but_train_on(tmp_path: Path) -> None:
    document = label_file()
    document["annotations"][0]["segmentation"] = {"size": SIZE, "counts": [HEIGHT * WIDTH]}
    document["annotations"][0].pop("bbox")
    document["annotations"][1]["iscrowd"] = 1
    findings = _check(write(tmp_path, document))
    assert {f.kind.name for f in findings.warnings()} == {"masks-empty", "crowds"}
    assert not findings.errors()


def test_alternates_are_checked_like_masks(tmp_path: Path) -> None:
    document = label_file()
    document["annotations"][0]["alternates"] = [{"size": SIZE[::-1], "counts": _code(0).decode()}]
    assert [f.kind.name for f in _check(write(tmp_path, document)).errors()] == ["masks-size-swapped"]


def test_what_the_checks_call_sound_the_reader_reads(tmp_path: Path) -> None:
    path = write(tmp_path, label_file())
    assert not _check(path, tmp_path / "images").errors()
    assert len(read_pseudo_labels(path).annotations) == COUNT
