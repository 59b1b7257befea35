"""What other people's tools read of our files; each test skips where its tool is not installed.

pip install fiftyone supervision datumaro, and for explain.parquet SAPNET_OTHER_PYTHON=python-with-another-pyarrow
"""

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from sapnet_pipe.data.labels.explanations import Selection, open_explanations
from tests.data.labels.test_pseudo_labels_file import IMAGES, labels_file

__all__ = ["labels_file"]


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    for image in IMAGES:
        path = tmp_path / "photographs" / image.file_name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (image.width, image.height)).save(path)
    return tmp_path / "photographs"


def test_fiftyone(labels_file: Path) -> None:
    coco = pytest.importorskip("fiftyone.utils.coco", reason="FiftyOne is not installed: pip install fiftyone")
    _, classes, _, images, annotations = coco.load_coco_detection_annotations(str(labels_file))
    truth = COCO(str(labels_file))
    for image_id, objects in annotations.items():
        size = images[image_id]["width"], images[image_id]["height"]
        for found in objects:
            detection = found.to_detection(size, classes, load_segmentation=True)
            entry = truth.loadAnns([found.id])[0]
            assert detection.label == truth.loadCats([entry["category_id"]])[0]["name"]
            assert detection["score"] == entry["score"]
            assert detection["mask_confidence"] == entry["mask_confidence"]
            assert detection.mask.sum() == truth.annToMask(entry).sum()


def test_supervision(labels_file: Path, photographs: Path) -> None:
    supervision = pytest.importorskip("supervision", reason="supervision is not installed: pip install supervision")
    dataset = supervision.DetectionDataset.from_coco(str(photographs), str(labels_file), force_masks=True)
    truth = COCO(str(labels_file))
    wanted = sorted(int(truth.annToMask(entry).sum()) for entry in truth.loadAnns(truth.getAnnIds()))
    assert sorted(int(mask.sum()) for _, _, found in dataset for mask in found.mask) == wanted


def test_datumaro(labels_file: Path, photographs: Path) -> None:
    dataset = pytest.importorskip(
        "datumaro.components.dataset", reason="datumaro is not installed: pip install datumaro"
    )
    (photographs.parent / "annotations").mkdir()
    labels_file.rename(photographs.parent / "annotations" / "instances_train.json")
    photographs.rename(photographs.parent / "images")
    truth = COCO(str(photographs.parent / "annotations" / "instances_train.json"))
    masks = {
        mask.id: int(mask.image.sum())
        for item in dataset.Dataset.import_from(str(photographs.parent), "coco_instances")
        for mask in item.annotations
    }
    assert masks == {entry["id"]: int(truth.annToMask(entry).sum()) for entry in truth.loadAnns(truth.getAnnIds())}


def test_another_pyarrow_reads_the_explanations(tmp_path: Path) -> None:
    python = os.environ.get("SAPNET_OTHER_PYTHON")
    if python is None:
        pytest.skip("SAPNET_OTHER_PYTHON names no interpreter with another pyarrow")
    missing = np.array([[1, 2, 3, 4], [np.nan] * 4], np.float32)
    points = Selection(
        sizes=np.array([2, 1]), alternates=np.full((2, 3), -1), image_id=np.array([1, 1]), point_id=np.array([1, 2]),
        category_id=np.array([1, 1], np.int32), sam_score=np.array([0.1, 0.2, 0.3], np.float32),
        prm_box=missing, prm_rule=np.array([1, 0]), bag_index=np.array([0, 0]), runner_up=np.array([1, -1]),
        reassigned=np.zeros(2, bool), margin=np.array([0.1, np.nan], np.float32),
        score=np.zeros(2, np.float32), confidence=np.zeros(2, np.float32),
    )  # fmt: skip
    with open_explanations(tmp_path / "explain.parquet") as writer:
        writer.write(points)
    code = "import pyarrow.parquet as pq; print(pq.read_table('explain.parquet')['prm_box'].to_pylist())"
    said = subprocess.run([python, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert said.strip() == "[[1.0, 2.0, 3.0, 4.0], None]"
