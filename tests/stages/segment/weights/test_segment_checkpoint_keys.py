"""Exported files have AdelaiDet's names and shapes, and files with those names load."""

from pathlib import Path

import numpy as np
import pytest
import torch

from sapnet_pipe.data.coco.instances import Category
from sapnet_pipe.data.errors import UserError
from sapnet_pipe.stages.segment.config import HeadConfig, SegmentBackboneConfig
from sapnet_pipe.stages.segment.network import build_solov2
from sapnet_pipe.stages.segment.solov2.model import SOLOv2
from sapnet_pipe.stages.segment.weights.checkpoint_keys import from_detectron2, to_detectron2
from sapnet_pipe.stages.segment.weights.model_file import ModelDescription, load_initial_weights, load_model, save_model
from tests.stages.segment.segment_scenes import tiny_config
from tests.stages.segment.weights.published_r50 import published_r50

CATEGORIES = (Category(3, "cat"), Category(7, "dog"))


@pytest.fixture(scope="module")
def r50() -> SOLOv2:
    backbone = SegmentBackboneConfig(weights="imagenet", norm="frozen_bn", freeze_stages=2)
    return build_solov2(backbone, HeadConfig(), 80, warn=pytest.fail, load=False)[0]


def _tiny(classes: int = 2) -> SOLOv2:
    config = tiny_config()
    backbone = config.backbone.model_copy(update={"freeze_stages": 0})
    return build_solov2(backbone, config.head, classes, warn=pytest.fail, load=True)[0]


def _description() -> ModelDescription:
    config = tiny_config()
    backbone = config.backbone.model_copy(update={"freeze_stages": 0})
    return ModelDescription(categories=CATEGORIES, backbone=backbone, head=config.head, test=config.test)


def test_r50_has_the_published_names_and_shapes(r50):
    exported = {key: tuple(value.shape) for key, value in to_detectron2(r50.state_dict()).items()}
    assert exported == published_r50()
    assert len(exported) == 333
    assert sum(int(np.prod(shape)) for shape in exported.values()) == 26_905_536 + 18_081_104 + 1_659_392
    assert sum(p.numel() for p in r50.parameters() if p.requires_grad) == 46_317_392


def test_a_file_with_the_published_names_loads_with_the_classes_it_has(r50, tmp_path):
    torch.save({"model": {key: torch.full(shape, 0.5) for key, shape in published_r50().items()}}, tmp_path / "r50.pth")
    assert load_initial_weights(r50, tmp_path / "r50.pth") == []
    assert all((value == 0.5).all() for key, value in r50.state_dict().items() if "trunk.conv1" not in key)


def test_strides_that_the_weights_do_not_show_must_agree(tmp_path):
    model = _tiny()
    save_model(tmp_path / "model.pth", model, _description())
    assert load_initial_weights(model, tmp_path / "model.pth", stride_in_1x1=False) == []
    with pytest.raises(UserError, match=r"Set backbone\.stride_in_1x1=false"):
        load_initial_weights(model, tmp_path / "model.pth", stride_in_1x1=True)


def test_renaming_there_and_back_is_the_identity():
    state = {key: value for key, value in _tiny().state_dict().items() if not key.endswith("num_batches_tracked")}
    back = from_detectron2(to_detectron2(state))
    assert back.keys() == state.keys()
    for key, value in state.items():
        torch.testing.assert_close(back[key], value, rtol=1e-6, atol=0)


def test_exported_stem_sees_bgr_pixels_as_ours_sees_normalised_rgb():
    model = _tiny()
    rgb = torch.randint(0, 256, (1, 3, 32, 32)).float()
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    conv1 = model.backbone.get_submodule("trunk.conv1")
    ours = conv1((rgb / 255 - mean[:, None, None]) / std[:, None, None])
    stem = to_detectron2(model.state_dict())["backbone.bottom_up.stem.conv1.weight"]
    bgr = rgb[:, [2, 1, 0]] - torch.tensor([103.53, 116.28, 123.675])[:, None, None]
    torch.testing.assert_close(torch.nn.functional.conv2d(bgr, stem, stride=2, padding=3), ours, rtol=1e-4, atol=1e-4)


def test_stride_in_1x1_moves_the_strides_of_the_bottlenecks():
    settings = {"name": "resnet50", "width": 16, "weights": "none", "norm": "gn", "stride_in_1x1": True}
    model, _ = build_solov2(
        SegmentBackboneConfig(**settings, fpn_channels=32), tiny_config().head, 2, warn=pytest.fail, load=True
    )
    first = model.backbone.get_submodule("trunk.layer2.0")
    assert (first.conv1.stride, first.conv2.stride) == ((2, 2), (1, 1))
    features = model.backbone(torch.zeros(1, 3, 64, 64))
    assert features["p3"].shape[-2:] == (8, 8)


def test_a_saved_model_loads_and_predicts_the_same(tmp_path):
    model = _tiny().eval()
    save_model(tmp_path / "model.pth", model, _description())
    loaded, description = load_model(tmp_path / "model.pth")
    assert description == _description()
    images = torch.randn(1, 3, 64, 64)
    for one, other in zip(model(images).kernels, loaded.eval()(images).kernels, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_starting_from_other_classes_keeps_their_new_layer(tmp_path):
    save_model(tmp_path / "model.pth", _tiny(), _description())
    other = _tiny(classes=5)
    before = other.ins_head.cate_pred.weight.clone()
    kept = load_initial_weights(other, tmp_path / "model.pth")
    assert kept == ["ins_head.cate_pred.weight", "ins_head.cate_pred.bias"]
    assert torch.equal(other.ins_head.cate_pred.weight, before)


@pytest.mark.parametrize(
    "content",
    [{"model": {"a": torch.zeros(1)}}, {"weights": 1}, {"model": {}, "sapnet_pipe": {"categories": []}}],
    ids=["foreign", "no model", "no description"],
)
def test_a_foreign_file_is_refused_by_name(tmp_path, content):
    torch.save(content, tmp_path / "model.pth")
    with pytest.raises(UserError, match=r"model\.pth"):
        load_model(tmp_path / "model.pth")


def test_a_truncated_file_is_refused_by_name(tmp_path: Path):
    save_model(tmp_path / "model.pth", _tiny(), _description())
    (tmp_path / "model.pth").write_bytes((tmp_path / "model.pth").read_bytes()[:100])
    with pytest.raises(UserError, match=r"model\.pth"):
        load_model(tmp_path / "model.pth")
