import json
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from torchvision.datasets import CocoDetection

from sapnet_pipe.data.coco.instances import Category, ImageRecord, counts_of
from sapnet_pipe.data.coco.masks import encode_mask
from sapnet_pipe.data.errors import UserError
from sapnet_pipe.data.labels.pseudo_labels import PseudoLabel, alternates_of, read_pseudo_labels, write_pseudo_labels

IMAGES = [ImageRecord(7, "b/seven.png", 10, 20), ImageRecord(3, "three.png", 8, 8)]
CATEGORIES = [Category(9, "cup"), Category(4, "cat")]


def square(left: int, top: int, right: int, bottom: int, height: int = 10, width: int = 20) -> bytes:
    mask = np.zeros((height, width), bool)
    mask[top:bottom, left:right] = True
    return encode_mask(mask)


def label(point_id: int, **changes) -> PseudoLabel:
    values: dict[str, Any] = {
        "point_id": point_id,
        "image_id": 7,
        "category_id": 9,
        "point_xy": (3.5, 4.25),
        "rle": square(2, 3, 6, 8),
        "bag_index": 2,
        "score": 0.1 + 0.2,
        "psm_score": 1e-9,
        "prm_score": float(np.float32(0.7)),
        "margin": None,
        "box_prm": (1.5, 2.5, 6.25, 8.0),
        "alternates": (square(0, 0, 1, 1), square(0, 0, 20, 10)),
        "runner_up": 1,
        "confidence": 0.75,
        "source": "sapnet",
    }
    return PseudoLabel(**(values | changes))


@pytest.fixture
def labels_file(tmp_path):
    path = tmp_path / "pseudo_labels.json"
    plain = label(11, image_id=3, category_id=4, rle=square(0, 0, 8, 8, 8, 8), alternates=(), box_prm=None)
    write_pseudo_labels(path, IMAGES, CATEGORIES, [label(30), plain], info={"method": "sapnet"})
    return path


def test_an_annotation_holds_mask_box_area_and_the_reasons(labels_file):
    document = json.loads(labels_file.read_text())
    assert [entry["id"] for entry in document["annotations"]] == [11, 30]
    assert [entry["id"] for entry in document["images"]] == [3, 7]
    assert [entry["id"] for entry in document["categories"]] == [4, 9]
    entry = document["annotations"][1]
    assert isinstance(entry.pop("segmentation")["counts"], str)
    alternates = entry.pop("alternates")
    assert [alternate["size"] for alternate in alternates] == [[10, 20], [10, 20]]
    assert entry == {
        "id": 30,
        "image_id": 7,
        "category_id": 9,
        "bbox": [2, 3, 4, 5],
        "area": 20,
        "iscrowd": 0,
        "score": 0.3,
        "mask_confidence": 0.75,
        "source": "sapnet",
        "point": [3.5, 4.25],
        "bag_index": 2,
        "runner_up": 1,
        "psm_score": 1e-9,
        "prm_score": 0.7,
        "margin": None,
        "box_prm": [1.5, 2.5, 6.25, 8.0],
    }


def test_reading_gives_masks_and_alternates_back(labels_file):
    dataset = read_pseudo_labels(labels_file)
    chosen = dataset.annotations[1]
    assert counts_of(chosen, dataset.images[7], file=labels_file) == square(2, 3, 6, 8)
    expected = (square(0, 0, 1, 1), square(0, 0, 20, 10))
    assert alternates_of(chosen, dataset.images[7], file=labels_file) == expected
    assert alternates_of(dataset.annotations[0], dataset.images[3], file=labels_file) == ()


def test_pycocotools_and_torchvision_read_the_file_unchanged(labels_file, tmp_path):
    coco = COCO(str(labels_file))
    mask = coco.annToMask(coco.loadAnns([30])[0])
    assert mask.sum() == 20
    assert mask[3:8, 2:6].all()
    (tmp_path / "b").mkdir()
    Image.new("RGB", (20, 10)).save(tmp_path / "b" / "seven.png")
    Image.new("RGB", (8, 8)).save(tmp_path / "three.png")
    dataset = CocoDetection(str(tmp_path), str(labels_file))
    assert [[entry["id"] for entry in target] for _, target in dataset] == [[11], [30]]


def test_the_same_labels_in_any_order_give_the_same_bytes(tmp_path):
    labels = [label(number) for number in range(5)]
    write_pseudo_labels(tmp_path / "a.json", IMAGES, CATEGORIES, labels, info={})
    write_pseudo_labels(tmp_path / "b.json", IMAGES[::-1], CATEGORIES[::-1], labels[::-1], info={})
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def test_a_score_that_is_not_finite_is_never_written(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_pseudo_labels(tmp_path / "a.json", IMAGES, CATEGORIES, [label(1, score=float("nan"))], info={})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("key", "value", "field"),
    [
        ("score", "high", "annotation 30.score = high"),
        ("score", float("nan"), "annotation 30.score = nan"),
        ("mask_confidence", "sure", "annotation 30.mask_confidence = sure"),
        ("confidence", "sure", "annotation 30.confidence = sure"),  # of an earlier version
        ("alternates", {}, "annotation 30.alternates = {}"),
        ("alternates", [None], "annotation 30.alternates[0] = None"),
        ("alternates", [{"size": [8, 8], "counts": "0"}], "annotation 30.alternates[0].size = [8, 8]"),
        ("alternates", [{"size": [10, 20], "counts": "0"}], "annotation 30.alternates[0].counts = 0"),
    ],
)
def test_an_unusable_label_is_named(labels_file, key, value, field):
    document = json.loads(labels_file.read_text())
    document["annotations"][1][key] = value
    labels_file.write_text(json.dumps(document))

    def use() -> None:
        dataset = read_pseudo_labels(labels_file)
        alternates_of(dataset.annotations[1], dataset.images[7], file=labels_file)

    with pytest.raises(UserError) as raised:
        use()
    assert f"pseudo_labels.json: {field}" in str(raised.value)


def test_labels_are_taken_one_by_one_and_wait_in_a_file_to_be_sorted(tmp_path, monkeypatch):
    labels = [label(point_id) for point_id in range(50, 0, -1)]
    write_pseudo_labels(tmp_path / "listed.json", IMAGES, CATEGORIES, labels, info={})
    monkeypatch.setattr("sapnet_pipe.data.json_files._IN_MEMORY", 100)
    write_pseudo_labels(tmp_path / "streamed.json", IMAGES, CATEGORIES, iter(labels), info={})
    assert (tmp_path / "streamed.json").read_bytes() == (tmp_path / "listed.json").read_bytes()
    assert [entry["id"] for entry in json.loads((tmp_path / "streamed.json").read_text())["annotations"]] == list(
        range(1, 51)
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["listed.json", "streamed.json"]


def test_no_label_at_all_is_an_empty_list(tmp_path):
    write_pseudo_labels(tmp_path / "none.json", IMAGES, CATEGORIES, [], info={})
    assert json.loads((tmp_path / "none.json").read_text())["annotations"] == []
