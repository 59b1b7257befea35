"""Real photographs: Detectron2's COCOEvaluator and our evaluation measure the same average precision."""

from tests.stages.segment.detectron2 import d2_host  # noqa: F401  # skips these tests where there is no Detectron2

# isort: split
import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog
from detectron2.data.datasets import register_coco_instances
from detectron2.evaluation import COCOEvaluator
from detectron2.structures import Boxes, Instances
from pycocotools import mask as rle

from sapnet_pipe.data.boxes import xywh_to_xyxy
from sapnet_pipe.data.coco.instances import InstanceDataset, counts_of, read_instances
from sapnet_pipe.data.coco.masks import decode_masks, encode_mask
from sapnet_pipe.data.evaluation.coco_ap import coco_ap
from sapnet_pipe.pipeline.cli import run as command
from sapnet_pipe.stages.segment.detectron2.registration import forget
from tests.places import SHARED

FIGURES = ("AP", "AP50", "AP75", "APs", "APm", "APl")


@pytest.fixture(scope="module", params=["train2017", "val2017"])
def split(request: pytest.FixtureRequest) -> tuple[Path, Path]:
    """Instances and photographs of one split."""
    folder = SHARED / "data" / "tiny-coco"
    if not folder.is_dir():
        pytest.skip(f"no photographs in {folder}: set SAPNET_SHARED to the folder that holds data/tiny-coco")
    return folder / "annotations" / f"instances_{request.param}.json", folder / "images" / request.param


def _by_detectron2(truth: Path, images: Path, entries: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """COCOEvaluator on the truth file as it is, fed with Instances; figures in [0, 1]."""
    register_coco_instances("photographs", {}, str(truth), str(images))
    DatasetCatalog.get("photographs")  # reading it tells the catalogue its categories
    evaluator = COCOEvaluator("photographs", ("bbox", "segm"), distributed=False, use_fast_impl=False)
    evaluator.reset()
    dataset = read_instances(truth)
    index = dataset.category_index()
    for image in dataset.images.values():
        found = [entry for entry in entries if entry["image_id"] == image.image_id]
        result = Instances((image.height, image.width))
        result.pred_boxes = Boxes(xywh_to_xyxy(np.array([entry["bbox"] for entry in found]).reshape(-1, 4)))
        result.scores = torch.tensor([entry["score"] for entry in found], dtype=torch.float64)
        result.pred_classes = torch.tensor([index[entry["category_id"]] for entry in found], dtype=torch.int64)
        masks = [rle.decode(entry["segmentation"]) for entry in found]
        result.pred_masks = torch.from_numpy(np.array(masks).reshape(-1, image.height, image.width)).bool()
        evaluator.process([{"image_id": image.image_id}], [{"instances": result}])
    measured = evaluator.evaluate()
    forget("photographs")
    return {kind: {name: measured[kind][name] / 100 for name in FIGURES} for kind in ("segm", "bbox")}


def _assert_equal(ours: dict[str, dict[str, float]], theirs: dict[str, dict[str, float]]) -> None:
    for kind in ("segm", "bbox"):
        for name in FIGURES:
            expected = theirs[kind][name]  # Detectron2 says NaN where there is no object of that size
            assert ours[kind][name] == pytest.approx(-1.0 if np.isnan(expected) else expected, abs=1e-6), (kind, name)


def _shaken(dataset: InstanceDataset) -> list[dict[str, Any]]:
    """Truth as a mediocre model would find it: shifted, some missing, some of another class, some twice."""
    rng = np.random.default_rng(0)
    ids = [category.category_id for category in dataset.categories]
    entries = []
    for annotation in dataset.annotations:
        image = dataset.images[annotation.image_id]
        counts = counts_of(annotation, image, file=dataset.source)
        mask = decode_masks([counts], image.height, image.width)[0]
        for _ in range(rng.integers(0, 3)):
            shift = rng.integers(-6, 7, 2)
            moved = np.roll(mask, shift, (0, 1))
            rows, columns = np.flatnonzero(moved.any(1)), np.flatnonzero(moved.any(0))
            other = rng.random() < 0.1
            left, top = float(columns[0]), float(rows[0])
            entries.append(
                {
                    "image_id": image.image_id,
                    "category_id": int(rng.choice(ids)) if other else annotation.category_id,
                    "segmentation": {"size": list(mask.shape), "counts": encode_mask(moved).decode("ascii")},
                    "bbox": [left, top, float(columns[-1]) + 1 - left, float(rows[-1]) + 1 - top],
                    "score": round(float(rng.random()), 2),
                }
            )
    return entries


def test_shaken_truth_has_the_same_precision_by_both_evaluations(split):
    truth, images = split
    dataset = read_instances(truth)
    entries = _shaken(dataset)
    ours = {"segm": coco_ap(dataset, entries, "segm"), "bbox": coco_ap(dataset, entries, "bbox")}
    assert 0.05 < ours["segm"]["AP"] < 0.9
    _assert_equal(ours, _by_detectron2(truth, images, entries))


TRAINING = (
    "--preset solov2-r50-1x --engine detectron2 --device cpu --seed 0 --json --quiet "
    "--set backbone.weights=none --set train.max_iterations=10 --set train.batch_size=1 --set train.workers=0 "
    "--set train.log_every=1 --set test.score_threshold=0.04 --set test.update_threshold=0.001 "
    "--set test.max_per_image=20"
)


@pytest.mark.slow
def test_ten_iterations_at_full_size_then_predict_then_both_evaluations(split, tmp_path, capfd):
    truth, images = split
    run, found = tmp_path / "run", tmp_path / "predictions.json"
    lines = [
        f"train-seg --labels {truth} --images {images} --out {run} {TRAINING}",
        f"predict --run {run} --images {images} --images-json {truth} --out {found} --device cpu --json --quiet",
        f"evaluate --truth {truth} --predictions {found} --json --quiet",
    ]
    results = []
    for line in lines:
        code = command(shlex.split(line))
        said = capfd.readouterr()
        assert code == 0, said.err
        results.append(json.loads(said.out))
    trained, predicted, ours = results
    assert (trained["iterations"], trained["engine"]) == (10, "detectron2")
    assert predicted["instances"] > 0
    entries = json.loads(found.read_text())
    _assert_equal(ours, _by_detectron2(truth, images, entries))
