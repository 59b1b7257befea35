"""Every form, read by the package that it is for: the IoU is the one that the export stated.

Of these packages only torchvision and pycocotools are installed with this one. To run the others, make an environment
with this package and `supervision ultralytics datumaro datasets labelme label-studio-sdk shapely fiftyone`, some with
`pip install --no-deps` as they want older releases of others, and run this file in it.
"""

import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from torchvision.datasets import CocoDetection, VOCSegmentation

from sapnet_pipe.data.coco.masks import Mask
from sapnet_pipe.data.exports.fidelity import Fidelity, mask_iou
from tests.data.exports.conftest import CLASSES, MASKS, NAMES, SIZE, document
from tests.data.exports.test_forms import written

FLAT = {**NAMES, 2: "b ö.png"}  # some of these readers do not look into folders


@pytest.fixture
def export(tmp_path: Path, photos: Path) -> Callable[..., tuple[Path, Fidelity]]:
    """Write the set, without folders, in a form."""
    (photos / NAMES[2]).rename(photos / FLAT[2])
    changed = document()
    changed["images"][1]["file_name"] = FLAT[2]
    labels = tmp_path / "flat.json"
    labels.write_text(json.dumps(changed), encoding="utf-8")

    def write(form: str, **options: Any) -> tuple[Path, Fidelity]:
        fidelity, _ = written(form, labels, tmp_path / "out", photos, **options)
        return tmp_path / "out", fidelity

    return write


def package(name: str) -> Any:
    """The module of a package, or skip and say how to run the test."""
    return pytest.importorskip(
        name, reason=f"pip install {name.partition('.')[0]} runs this test; see this file's head"
    )


def check(found: Iterable[tuple[str, str, Mask]], fidelity: Fidelity) -> None:
    """Compare (file name, class, mask), in any order, to the masks of the set and to what was stated."""
    left = [(FLAT[image_id], CLASSES[index], mask) for image_id, _, index, mask in MASKS.values()]
    ious = []
    for name, label, mask in found:
        wanted = Path(name).stem, label
        rivals = [place for place, (file, kind, _) in enumerate(left) if (Path(file).stem, kind) == wanted]
        assert rivals, f"{name} has no {label} left"
        best = max(rivals, key=lambda place: mask_iou(left[place][2], mask))
        ious.append(mask_iou(left.pop(best)[2], mask))
    assert left == []
    assert fidelity.iou_sum == pytest.approx(sum(ious), abs=1e-6)
    assert fidelity.worst == pytest.approx(min(ious), abs=1e-6)


def test_torchvision_reads_coco_polygons(export: Callable[..., Any], photos: Path) -> None:
    path, fidelity = export("coco-polygons")
    data = CocoDetection(str(photos), str(path))
    names = {entry["id"]: entry["name"] for entry in data.coco.cats.values()}
    check(
        (
            (FLAT[target["image_id"]], names[target["category_id"]], data.coco.annToMask(target).astype(bool))
            for _, targets in data
            for target in targets
        ),
        fidelity,
    )


def test_torchvision_reads_voc(export: Callable[..., Any], tmp_path: Path) -> None:
    path, fidelity = export("voc")
    root = tmp_path / "root"
    (root / "VOCdevkit").mkdir(parents=True)
    path.rename(root / "VOCdevkit" / "VOC2012")
    found = []
    for split in ("train", "val"):
        data = VOCSegmentation(str(root), "2012", split)
        for file, (photo, classes) in zip(data.masks, data, strict=True):
            assert photo.size == classes.size == SIZE[::-1]
            objects = np.asarray(Image.open(file.replace("SegmentationClass", "SegmentationObject")))
            for number in np.unique(objects[objects > 0]):
                (index,) = np.unique(np.asarray(classes)[objects == number])
                found.append((Path(file).name, CLASSES[index - 1], objects == number))
    check(found, fidelity)


@pytest.mark.parametrize("options", [{}, {"holes": "bridge"}], ids=["filled", "bridged"])
def test_supervision_reads_yolo(export: Callable[..., Any], options: dict[str, str]) -> None:
    supervision = package("supervision")
    path, fidelity = export("yolo", **options)
    found: list[tuple[str, str, Mask]] = []
    for split in ("train", "val"):
        data = supervision.DetectionDataset.from_yolo(
            str(path / "images" / split), str(path / "labels" / split), str(path / "data.yaml"), force_masks=True
        )
        found += _of_supervision(data)
    check(found, fidelity)


def test_supervision_reads_coco_polygons(export: Callable[..., Any], photos: Path) -> None:
    supervision = package("supervision")
    path, fidelity = export("coco-polygons", holes="bridge")
    data = supervision.DetectionDataset.from_coco(str(photos), str(path), force_masks=True)
    found = list(_of_supervision(data))
    assert len(found) == fidelity.objects  # it fills polygons by a rule of its own, wider by a pixel


def _of_supervision(data: Any) -> Iterable[tuple[str, str, Mask]]:
    for file, _, detections in data:
        for mask, index in zip(
            detections.mask if len(detections) else (), detections.class_id if len(detections) else (), strict=True
        ):
            yield Path(file).name, data.classes[index], mask


@pytest.mark.parametrize("options", [{}, {"holes": "bridge"}, {"tolerance": 1.0}], ids=["filled", "bridged", "fewer"])
def test_ultralytics_reads_yolo(export: Callable[..., Any], options: dict[str, Any]) -> None:
    reader = package("ultralytics.data.utils")
    path, fidelity = export("yolo", **options)
    data = reader.check_det_dataset(str(path / "data.yaml"), autodownload=False)
    found = []
    for split in ("train", "val"):
        files = sorted(str(file) for file in Path(data[split]).iterdir())
        for file, label in zip(files, reader.img2label_paths(files), strict=True):
            _, boxes, shape, segments, _, *_, problem = reader.verify_image_label(
                (file, label, "", False, 3, 0, 0, False)
            )
            assert shape == SIZE
            assert not problem
            assert (boxes[:, 3:] > 0).all()
            for box, segment in zip(boxes, segments, strict=True):
                mask = reader.polygon2mask(SIZE, [segment * np.array(SIZE[::-1], np.float32)])
                found.append((Path(file).name, data["names"][int(box[0])], mask.astype(bool)))
    check(found, fidelity)


@pytest.mark.parametrize("shape", ["polygon", "mask"])
def test_labelme_reads_its_files(export: Callable[..., Any], shape: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QT_QPA_PLATFORM", "offscreen")
    label_file, utils = package("labelme._label_file"), package("labelme.utils")
    path, fidelity = export("labelme", shape=shape)
    found = []
    for name in FLAT.values():
        file = label_file.LabelFile(str(path / f"{Path(name).stem}.json"))
        shapes = [entry if isinstance(entry, dict) else vars(entry) for entry in file.shapes]
        for entries in _instances(shapes):
            _, instances = utils.shapes_to_label(
                SIZE, entries, {label: index for index, label in enumerate(CLASSES, 1)}
            )
            found.append((name, entries[0]["label"], instances > 0))
    check(found, fidelity)


def _instances(shapes: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    groups: dict[Any, list[dict[str, Any]]] = {}
    for number, shape in enumerate(shapes):
        groups.setdefault(shape["group_id"] or f"alone {number}", []).append(shape)
    return list(groups.values())


@pytest.mark.parametrize("form", ["cvat", "voc", "coco-polygons"])
def test_datumaro_reads_cvat_voc_and_coco(export: Callable[..., Any], form: str, photos: Path, tmp_path: Path) -> None:
    dataset = package("datumaro.components.dataset").Dataset
    path, fidelity = export(form)
    root = tmp_path / "root"
    if form == "voc":
        path.rename(root)
    else:
        target = root / ("annotations.xml" if form == "cvat" else "annotations/instances_all.json")
        target.parent.mkdir(parents=True)
        path.rename(target)
        photos.rename(root / "images")
    kind = {"cvat": "cvat", "voc": "voc_segmentation", "coco-polygons": "coco_instances"}[form]
    data = dataset.import_from(str(root), kind)
    check(_of_datumaro(data.get_subset("trainval") if form == "voc" else data), fidelity)


def _of_datumaro(data: Any) -> Iterable[tuple[str, str, Mask]]:
    mask_tools = package("datumaro.util.mask_tools")
    names = [label.name for label in next(iter(data.categories().values())).items]
    for item in data:
        polygons: dict[int, list[Any]] = {}
        for annotation in item.annotations:
            if annotation.type.name == "mask":
                yield f"{item.id}.x", names[annotation.label], np.asarray(annotation.image).astype(bool)
            elif annotation.type.name == "polygon":
                polygons.setdefault(annotation.group or annotation.id, []).append(annotation)
        for parts in polygons.values():
            mask = mask_tools.rles_to_mask([part.points for part in parts], *SIZE[::-1])
            yield f"{item.id}.x", names[parts[0].label], mask.astype(bool)


def test_label_studio_decodes_brushes(export: Callable[..., Any]) -> None:
    brush = package("label_studio_sdk.converter.brush")
    path, fidelity = export("label-studio")
    found = []
    for task in json.loads((path / "tasks.json").read_text(encoding="utf-8")):
        for region in task["predictions"][0]["result"]:
            picture = brush.decode_rle(region["value"]["rle"]).reshape(*SIZE, 4)
            found.append((task["data"]["file_name"], region["value"]["brushlabels"][0], picture[:, :, 3] > 0))
    check(found, fidelity)
    interface = ElementTree.parse(path / "label_config.xml")
    assert [label.attrib["value"] for label in interface.iter("Label")] == list(CLASSES)


def test_label_studio_accepts_the_predictions(export: Callable[..., Any]) -> None:
    interfaces = package("label_studio_sdk.label_interface")
    for shape in ("mask", "polygon"):
        path, _ = export("label-studio", shape=shape)
        interface = interfaces.LabelInterface((path / "label_config.xml").read_text(encoding="utf-8"))
        for task in json.loads((path / "tasks.json").read_text(encoding="utf-8")):
            for prediction in task["predictions"]:
                assert interface.validate_prediction(prediction)
        path.rename(path.with_name(shape))


def test_datasets_loads_the_folder(export: Callable[..., Any], tmp_path: Path) -> None:
    datasets = package("datasets")
    path, fidelity = export("huggingface")
    loaded = datasets.load_dataset(str(path), cache_dir=str(tmp_path / "cache"))
    assert set(loaded) == {"train", "validation"}
    found = []
    for split in loaded.values():
        names = split.features["objects"]["category"].feature.names
        assert names == list(CLASSES)
        for row in split:
            assert row["image"].size == (row["width"], row["height"]) == SIZE[::-1]
            for category, rle in zip(row["objects"]["category"], row["objects"]["rle"], strict=True):
                mask = coco_mask.decode({"size": list(SIZE), "counts": rle}).astype(bool)
                found.append((row["file_name"], names[category], mask))
    check(found, fidelity)


def test_shapely_finds_valid_polygons_of_the_area_of_the_masks(export: Callable[..., Any]) -> None:
    geometries = package("shapely.geometry")
    path, _ = export("geojson")
    areas = []
    for name in FLAT.values():
        for feature in json.loads((path / f"{Path(name).stem}.geojson").read_text(encoding="utf-8"))["features"]:
            geometry = geometries.shape(feature["geometry"])
            assert geometry.is_valid
            areas.append(geometry.area)
    assert areas == [np.count_nonzero(mask) for *_, mask in MASKS.values()]


def test_fiftyone_imports_the_folder(export: Callable[..., Any]) -> None:
    """By its importer alone: a data set of its own needs a database."""
    coco = package("fiftyone.utils.coco")
    path, fidelity = export("fiftyone")
    found, scores = [], []
    with coco.COCODetectionDatasetImporter(str(path), label_types="segmentations") as importer:
        for file, _, segmentations in importer:
            for detection in segmentations.detections if segmentations else ():
                whole = np.zeros(SIZE, np.bool_)
                left, top = np.round(np.array(detection.bounding_box[:2]) * SIZE[::-1]).astype(int)
                height, width = detection.mask.shape
                whole[top : top + height, left : left + width] = detection.mask
                found.append((Path(file).name, detection.label, whole))
                scores.append(detection.confidence)
    check(found, fidelity)
    assert sorted(scores) == sorted(entry["score"] for entry in document()["annotations"])
