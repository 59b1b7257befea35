"""Checkpoints of either engine in the other: names, shapes, first weights, and the same instances."""

from tests.stages.segment.detectron2 import d2_host  # noqa: F401  # skips these tests where there is no Detectron2

# isort: split
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.data import build_detection_test_loader
from detectron2.engine import DefaultPredictor
from detectron2.evaluation import COCOEvaluator, inference_on_dataset
from detectron2.modeling import build_model
from PIL import Image
from pycocotools import mask as rle

from sapnet_pipe.data.coco.instances import read_instances
from sapnet_pipe.stages.segment import predict
from sapnet_pipe.stages.segment.config import SegmentBackboneConfig
from sapnet_pipe.stages.segment.detectron2.config import base_config, config_of, write_pixels
from sapnet_pipe.stages.segment.detectron2.mapper import MaskMapper
from sapnet_pipe.stages.segment.detectron2.registration import forget, register_images, write_truth
from sapnet_pipe.stages.segment.detectron2.writers import Checkpointer
from sapnet_pipe.stages.segment.network import build_solov2
from sapnet_pipe.stages.segment.weights.checkpoint_keys import to_detectron2
from sapnet_pipe.stages.segment.weights.model_file import load_model
from tests.stages.segment.detectron2.d2_host import train, weights
from tests.stages.segment.segment_scenes import tiny_config, write_scenes
from tests.stages.segment.weights.pickled_backbones import caffe2_names, pickled
from tests.stages.segment.weights.published_r50 import published_r50

EAGER = {"score_threshold": 0.005, "update_threshold": 0.001, "max_per_image": 20}


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    return write_scenes(tmp_path / "s", [3, 2, 4], size=(101, 134))


def _hosted_results(file: Path, labels: Path, folder: Path) -> list[dict[str, Any]]:
    """Load a model file into Detectron2's model, and let its loader and COCOEvaluator make the results."""
    _, description = load_model(file)
    truth, images = read_instances(labels), labels.parent / "images"
    config = tiny_config(head=description.head.model_dump(), test=description.test.model_dump())
    cfg = config_of(config, description.backbone, num_classes=len(description.categories), out=folder, device="cpu")
    write_pixels(cfg, description.pixels)
    model = build_model(cfg)
    Checkpointer(model, "", description).load(str(file), [])
    write_truth(folder / "truth.json", truth)
    register_images(
        "hosted", list(truth.images.values()), images, description.categories, json_file=str(folder / "truth.json")
    )
    loader = build_detection_test_loader(cfg, "hosted", mapper=MaskMapper.from_cfg(cfg, is_train=False))
    evaluator = COCOEvaluator("hosted", ("segm",), output_dir=str(folder), use_fast_impl=False)
    inference_on_dataset(model, loader, evaluator)
    forget("hosted")
    return list(json.loads((folder / "coco_instances_results.json").read_text()))


def assert_same_instances(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> None:
    """Every instance of one has its twin in the other: score within 1e-4, mask IoU of at least 0.999."""
    assert len(ours) == len(theirs) > 0
    left = list(theirs)
    for entry in ours:
        close = [
            other
            for other in left
            if (other["image_id"], other["category_id"]) == (entry["image_id"], entry["category_id"])
            and abs(other["score"] - entry["score"]) <= 1e-4
        ]
        overlaps = rle.iou([entry["segmentation"]], [other["segmentation"] for other in close], [0] * len(close))[0]
        assert overlaps.max() >= 0.999
        twin = close[int(overlaps.argmax())]
        assert twin["bbox"] == pytest.approx(entry["bbox"], abs=1)
        left.remove(twin)


@pytest.mark.parametrize("engine", ["builtin", "detectron2"])
def test_a_model_of_either_engine_gives_the_same_instances_in_predict_and_in_detectron2(tmp_path, labels, engine):
    # At sides of 100 and 133 the photographs are resized, and padded on the right and below.
    sides = {"test": {**EAGER, "short_side": 100, "long_side": 133}}
    train(tmp_path, labels, "run", engine=engine, train={"max_iterations": 15, "lr": 3e-3}, **sides)
    file, out = tmp_path / "run/model_final.pth", tmp_path / "ours.json"
    (tmp_path / "d2").mkdir()
    predict.run(tmp_path / "run", labels.parent / "images", out, images_json=labels, device="cpu", quiet=True)
    assert_same_instances(json.loads(out.read_text()), _hosted_results(file, labels, tmp_path / "d2"))


def test_detectron2s_own_predictor_reads_the_run_folder(tmp_path, labels):
    train(tmp_path, labels, "run", test=EAGER, train={"max_iterations": 15, "lr": 3e-3})
    cfg = base_config()
    cfg.merge_from_file(str(tmp_path / "run/config.yaml"))
    cfg.DATASETS.TEST, cfg.MODEL.WEIGHTS = (), str(tmp_path / "run/model_final.pth")
    photograph = np.asarray(Image.open(tmp_path / "s/images/001.png").convert("RGB"))
    theirs = DefaultPredictor(cfg)(photograph[:, :, ::-1])["instances"]
    predict.run(tmp_path / "run", tmp_path / "s/images", tmp_path / "p.json", device="cpu", quiet=True)
    ours = [entry["score"] for entry in json.loads((tmp_path / "p.json").read_text()) if entry["image_id"] == 1]
    assert theirs.image_size == photograph.shape[:2]
    assert len(ours) > 0
    assert theirs.scores.tolist()[0] == pytest.approx(ours[0], abs=0.02)  # it resizes with another filter


@pytest.mark.parametrize(("first", "second"), [("builtin", "detectron2"), ("detectron2", "builtin")])
def test_a_model_of_one_engine_is_where_the_other_begins(tmp_path, labels, first, second):
    train(tmp_path, labels, "first", engine=first)
    still = {"max_iterations": 1, "lr": 1e-12, "weight_decay": 0.0}
    file = str(tmp_path / "first/model_final.pth")
    summary = train(tmp_path, labels, "second", engine=second, init=file, train=still)
    assert any("started from" in note for note in summary.notes)
    before, after = (load_model(tmp_path / name / "model_final.pth")[0].state_dict() for name in ("first", "second"))
    learnt = [key for key in before if "running_" not in key and "num_batches" not in key]
    for key in learnt:
        torch.testing.assert_close(after[key], before[key], rtol=1e-5, atol=1e-6)


def test_the_hosted_r50_has_the_published_names_and_shapes():
    cfg = base_config()
    cfg.MODEL.DEVICE = "meta"
    with torch.device("meta"):
        model = build_model(cfg)
    state = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    assert state == published_r50()
    frozen = [name for name, parameter in model.named_parameters() if not parameter.requires_grad]
    assert {name.split(".")[2] for name in frozen} <= {"stem", "res2"}


def test_a_checkpoint_with_published_names_and_pixels_is_where_detectron2_begins(tmp_path, labels):
    config = tiny_config(backbone={"freeze_stages": 0})
    model, _ = build_solov2(config.backbone, config.head, 3, warn=pytest.fail, load=True)
    published = to_detectron2(model.state_dict())
    torch.save({"model": published}, tmp_path / "published.pth")
    still = {"max_iterations": 1, "lr": 1e-12, "weight_decay": 0.0}
    train(tmp_path, labels, "run", init=str(tmp_path / "published.pth"), train=still)
    again = to_detectron2(load_model(tmp_path / "run/model_final.pth")[0].state_dict())
    for key in (key for key in published if "running_" not in key):
        torch.testing.assert_close(again[key], published[key], rtol=1e-5, atol=1e-6)


def test_both_engines_begin_with_a_pickled_backbone(tmp_path, labels):
    backbone = {"name": "resnet50", "width": 16, "weights": "none", "norm": "bn", "fpn_channels": 16}
    model, _ = build_solov2(
        SegmentBackboneConfig(**backbone, stride_in_1x1=True), tiny_config().head, 3, warn=pytest.fail, load=True
    )
    prefix = "backbone.bottom_up."
    state = {key[len(prefix) :]: value for key, value in to_detectron2(model.state_dict()).items() if prefix in key}
    file = pickled(tmp_path / "R-50.pkl", caffe2_names(state))
    losses = {}
    for engine in ("builtin", "detectron2"):
        settings = {**backbone, "weights": file, "norm": "auto"}
        summary = train(tmp_path, labels, engine, engine=engine, backbone=settings, train={"max_iterations": 1})
        losses[engine] = summary.loss
        assert any("stride_in_1x1" in note for note in summary.notes)
    assert losses["detectron2"]["loss"] == pytest.approx(losses["builtin"]["loss"], rel=1e-5)
    assert losses["detectron2"]["grad_norm"] == pytest.approx(losses["builtin"]["grad_norm"], rel=1e-4)
    frozen = weights(tmp_path / "detectron2")["backbone.bottom_up.res2.0.conv1.weight"]
    assert torch.equal(frozen, state["res2.0.conv1.weight"])
