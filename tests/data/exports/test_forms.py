"""Every form, read back by its documented rules, has the IoU that the export stated."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sapnet_pipe.data.coco.masks import encode_mask
from sapnet_pipe.data.errors import UserError
from sapnet_pipe.data.exports.fidelity import Fidelity, mask_iou
from sapnet_pipe.data.exports.forms import FORMS, write_form
from sapnet_pipe.data.exports.record import ExportJob, ExportOptions
from sapnet_pipe.data.exports.source import read_labels, read_predictions
from tests.data.exports.conftest import CLASSES, MASKS, NAMES, SIZE, document, mask_of
from tests.data.exports.documented_readers import READERS

OPTIONS = [
    *(pytest.param(form, {}, id=form) for form in FORMS),
    pytest.param("coco-polygons", {"holes": "bridge"}, id="coco-bridge"),
    pytest.param("yolo", {"holes": "bridge"}, id="yolo-bridge"),
    pytest.param("labelme", {"shape": "mask"}, id="labelme-mask"),
    *(
        pytest.param(form, {"tolerance": 1.0}, id=f"{form}-tolerance")
        for form in ("coco-polygons", "yolo", "labelme", "geojson")
    ),
]
EXACT = ("cvat", "label-studio", "geojson", "fiftyone", "huggingface")


def written(
    form: str, labels: Path, out: Path, photos: Path | None = None, **options: Any
) -> tuple[Fidelity, list[str]]:
    """Export the file."""
    source = read_labels(labels, photos, min_score=0.0, keep_crowds=False)
    job = ExportJob(source.path, source.categories, source.records, photos, ExportOptions(**options))
    return write_form(FORMS[form], out, job, source.images())


def test_every_form_has_a_reader() -> None:
    assert READERS.keys() == FORMS.keys()


@pytest.mark.parametrize(("form", "options"), OPTIONS)
def test_the_iou_that_is_stated_is_the_iou_that_is_found(
    form: str, options: dict[str, Any], labels: Path, photos: Path, tmp_path: Path
) -> None:
    fidelity, _ = written(form, labels, tmp_path / "out", photos, **options)
    found = list(READERS[form](tmp_path / "out"))
    assert [name for name, _ in found] == [CLASSES[index] for _, _, index, _ in MASKS.values()]
    ious = [mask_iou(mask, mask_of(number)) for number, (_, mask) in enumerate(found, 1)]
    assert fidelity.objects == len(MASKS)
    assert fidelity.iou_sum / len(MASKS) == pytest.approx(np.mean(ious), abs=1e-9)
    assert fidelity.worst == pytest.approx(min(ious), abs=1e-9)
    if min(ious) < 1:
        assert fidelity.worst_object == int(np.argmin(ious)) + 1
    if not options and form in EXACT:
        assert min(ious) == 1


@pytest.mark.parametrize("form", ["coco-polygons", "yolo", "labelme"])
def test_forms_without_holes_fill_them_and_are_exact_else(
    form: str, labels: Path, photos: Path, tmp_path: Path
) -> None:
    fidelity, _ = written(form, labels, tmp_path / "out", photos)
    ious = {
        name: mask_iou(mask, mask_of(number))
        for number, (name, (_, mask)) in enumerate(zip(MASKS, READERS[form](tmp_path / "out"), strict=True), 1)
    }
    hole, whole = MASKS["hole"][3], np.count_nonzero(MASKS["hole"][3])
    assert ious.pop("hole") == pytest.approx(whole / (whole + 109))  # the disk of radius 6 in it has 109 pixels
    assert not hole[20, 30]
    if form == "yolo":
        # two boxes of 100 pixels, joined by a line of 8
        assert ious.pop("parts") == pytest.approx(200 / 208)
    assert set(ious.values()) == {1.0}
    assert (fidelity.holes_filled, fidelity.holes_bridged) == (1, 0)


@pytest.mark.parametrize("form", ["coco-polygons", "yolo"])
def test_bridges_keep_the_hole(form: str, labels: Path, photos: Path, tmp_path: Path) -> None:
    fidelity, _ = written(form, labels, tmp_path / "out", photos, holes="bridge")
    found = dict(zip(MASKS, READERS[form](tmp_path / "out"), strict=True))
    np.testing.assert_array_equal(found["hole"][1], MASKS["hole"][3])
    assert (fidelity.holes_filled, fidelity.holes_bridged) == (0, 1)


def test_parts_as_regions_of_their_own_are_counted(labels: Path, tmp_path: Path) -> None:
    fidelity, _ = written("label-studio", labels, tmp_path / "out", shape="polygon")
    found = list(READERS["label-studio"](tmp_path / "out"))
    assert len(found) == len(MASKS) + 1
    assert fidelity.parts_split == 1
    np.testing.assert_array_equal(found[2][1] | found[3][1], MASKS["parts"][3])


def test_scores_and_alternates_that_are_lost_are_counted(labels: Path, tmp_path: Path) -> None:
    changed = document()
    changed["annotations"][0]["alternates"] = [changed["annotations"][1]["segmentation"]]
    labels.write_text(json.dumps(changed))
    lost = {form: written(form, labels, tmp_path / form)[0].scores_dropped for form in FORMS}
    assert {form for form, count in lost.items() if count} == {"yolo", "voc"}
    assert written("cvat", labels, tmp_path / "again")[0].alternates_dropped == 1


@pytest.mark.parametrize("form", ["png", "voc"])
def test_the_smaller_of_two_that_overlap_lies_on_top(form: str, labels: Path, tmp_path: Path) -> None:
    fidelity, _ = written(form, labels, tmp_path / "out")
    found = dict(zip(MASKS, READERS[form](tmp_path / "out"), strict=True))
    np.testing.assert_array_equal(found["small"][1], MASKS["small"][3])
    assert fidelity.worst == pytest.approx(800 / 900)
    assert fidelity.hidden == 0


@pytest.mark.parametrize("form", ["png", "voc"])
def test_an_object_under_another_is_counted_as_hidden(form: str, labels: Path, tmp_path: Path) -> None:
    changed = document()
    changed["annotations"][7]["image_id"] = 4
    changed["annotations"][5]["segmentation"] = changed["annotations"][6]["segmentation"]
    labels.write_text(json.dumps(changed))
    fidelity, _ = written(form, labels, tmp_path / "out")
    assert (fidelity.hidden, fidelity.worst) == (1, 0.0)


def test_many_objects_make_a_picture_of_16_bits(labels: Path, tmp_path: Path) -> None:
    changed = document()
    pixels = []
    for number in range(300):
        mask = np.zeros(SIZE, np.bool_)
        mask[number // 60, number % 60] = True
        pixels.append(mask)
    changed["annotations"] = [
        {"id": number, "image_id": 1, "category_id": 10, "segmentation": _segmentation(mask)}
        for number, mask in enumerate(pixels)
    ]
    labels.write_text(json.dumps(changed))
    written("png", labels, tmp_path / "out")
    with Image.open(tmp_path / "out/masks/a.png") as picture:
        assert picture.mode.startswith("I;16")
    with Image.open(tmp_path / "out/masks/c.png") as picture:
        assert picture.mode == "P"
        assert picture.getpalette()[:6] == [0, 0, 0, 128, 0, 0]  # type: ignore[index]
    for (_, mask), wanted in zip(READERS["png"](tmp_path / "out"), pixels, strict=True):
        np.testing.assert_array_equal(mask, wanted)
    with pytest.raises(UserError, match="more objects than the 254"):
        written("voc", labels, tmp_path / "voc")
    assert not (tmp_path / "voc").exists()


def _segmentation(mask: np.ndarray) -> dict[str, Any]:
    return {"size": list(SIZE), "counts": encode_mask(mask).decode()}


def test_the_same_seed_draws_the_same_parts_and_each_has_an_image(labels: Path, tmp_path: Path) -> None:
    drawn: list[list[str]] = []
    for seed in (0, 0, 1, 2, 3):
        out = tmp_path / f"out{len(drawn)}"
        written("yolo", labels, out, seed=seed, val_share=0.4)
        drawn.append(sorted(path.stem for path in (out / "labels/val").rglob("*.txt")))
        assert len(drawn[-1]) == 2
        assert len(list((out / "labels/train").rglob("*.txt"))) == 3
    assert drawn[0] == drawn[1]
    assert len({tuple(part) for part in drawn}) > 1
    written("yolo", labels, tmp_path / "all", val_share=0.0)
    assert "val: images/train\n" in (tmp_path / "all/data.yaml").read_text()


@pytest.mark.parametrize("form", FORMS)
def test_the_same_input_gives_the_same_bytes(form: str, labels: Path, photos: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        written(form, labels, tmp_path / name, photos)
    assert _bytes(tmp_path / "one") == _bytes(tmp_path / "two")


def _bytes(path: Path) -> dict[str, bytes]:
    files = [path] if path.is_file() else [inner for inner in path.rglob("*") if inner.is_file()]
    return {file.relative_to(path).as_posix(): file.read_bytes() for file in files}


def test_photographs_are_copied_linked_or_left(labels: Path, photos: Path, tmp_path: Path) -> None:
    for how in ("copy", "link", "none"):
        _, notes = written("yolo", labels, tmp_path / how, photos, photographs=how)
        placed = [path for path in (tmp_path / how / "images").rglob("*") if path.suffix]
        assert len(placed) == (0 if how == "none" else len(NAMES))
        assert all(path.is_symlink() == (how == "link") for path in placed)
        assert any("photographs are not in the result" in note for note in notes) == (how == "none")


def test_labelme_names_the_photographs_where_they_lie(labels: Path, photos: Path, tmp_path: Path) -> None:
    written("labelme", labels, tmp_path / "out", photos)
    path = tmp_path / "out/sub dir/b ö.json"
    assert (path.parent / json.loads(path.read_text())["imagePath"]).resolve() == (photos / NAMES[2]).resolve()


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        pytest.param({"file_name": "a.png"}, "goes by the same name", id="two photographs of one stem"),
        pytest.param({"file_name": "../a.png"}, "leaves the image folder", id="a name that climbs out"),
        pytest.param({"file_name": "/tmp/a.png"}, "leaves the image folder", id="an absolute name"),
        pytest.param({"file_name": "none.png"}, "is not in", id="a photograph that is missing"),
    ],
)
def test_bad_names_are_one_error_and_leave_nothing(
    change: dict[str, Any], problem: str, labels: Path, photos: Path, tmp_path: Path
) -> None:
    changed = document()
    changed["images"][3] |= change
    labels.write_text(json.dumps(changed))
    with pytest.raises(UserError, match=problem):
        written("yolo", labels, tmp_path / "deep/out", photos)
    assert not (tmp_path / "deep").exists()


def test_a_photograph_of_another_size_is_refused(labels: Path, photos: Path, tmp_path: Path) -> None:
    Image.new("RGB", (50, 40)).save(photos / "a.jpg")
    with pytest.raises(UserError, match="50 wide and 40 high"):
        written("voc", labels, tmp_path / "out", photos)


@pytest.mark.parametrize("form", ["cvat", "label-studio", "voc"])
def test_names_that_xml_cannot_hold_are_refused(form: str, labels: Path, tmp_path: Path) -> None:
    changed = document()
    changed["categories"][1]["name"] = "a\x01b"
    labels.write_text(json.dumps(changed))
    with pytest.raises(UserError, match=r"categories\[1\]\.name"):
        written(form, labels, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == [labels.name]


def test_predictions_are_read_with_the_file_beside_them(labels: Path, tmp_path: Path) -> None:
    whole = document()
    results = [
        {key: entry[key] for key in ("image_id", "category_id", "segmentation", "score")}
        for entry in whole["annotations"]
    ]
    path, names = tmp_path / "p.json", tmp_path / "p.images.json"
    path.write_text(json.dumps(results))
    with pytest.raises(UserError, match="images-json"):
        read_predictions(path, names, None, min_score=0)
    names.write_text(json.dumps(whole | {"annotations": []}))
    source = read_predictions(path, names, None, min_score=0.35)
    images = list(source.images())
    assert [len(image.objects) for image in images] == [3, 2, 0, 0, 0]
    assert source.left_out.below_min_score == 3
    assert [item.object_id for image in images for item in image.objects] == [1, 2, 3, 4, 5]
    for key, value in (("image_id", 9), ("category_id", 9), ("score", None)):
        path.write_text(json.dumps([results[0] | {key: value}]))
        with pytest.raises(UserError, match=rf"results\[0\]\.{key}"):
            read_predictions(path, names, None, min_score=0)


def test_what_has_no_mask_is_left_out_and_counted(labels: Path) -> None:
    changed = document()
    changed["annotations"][0]["segmentation"] = None
    changed["annotations"][1]["segmentation"] = {"size": list(SIZE), "counts": [2400]}
    changed["annotations"][2]["iscrowd"] = 1
    labels.write_text(json.dumps(changed))
    source = read_labels(labels, None, min_score=0.0, keep_crowds=False)
    assert sum(len(image.objects) for image in source.images()) == len(MASKS) - 3
    left = source.left_out
    assert (left.without_mask, left.empty, left.crowds) == (1, 1, 1)
    source = read_labels(labels, None, min_score=0.0, keep_crowds=True)
    assert sum(len(image.objects) for image in source.images()) == len(MASKS) - 2
