"""The golden vectors through Detectron2's host: its Instances in, its losses and Instances out."""

from tests.stages.segment.detectron2 import d2_host  # noqa: F401  # skips these tests where there is no Detectron2

# isort: split
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.structures import BitMasks, Boxes, Instances

from sapnet_pipe.stages.segment.config import HeadConfig, LossConfig
from sapnet_pipe.stages.segment.detectron2.meta_arch import HostedSOLOv2
from sapnet_pipe.stages.segment.solov2.heads import InstanceHead, MaskHead
from sapnet_pipe.stages.segment.solov2.inference import Decoding
from sapnet_pipe.stages.segment.solov2.model import Predictions
from tests.stages.segment.solov2.golden_solov2 import (
    FEATURES,
    GRIDS,
    STRIDES,
    GivenFeatures,
    features_of,
    load,
    tensor,
    unpack,
)

SIZES = ((128, 160), (117, 149))


def _hosted(weights: dict[str, Any], decoding: Decoding, ranges: Any) -> HostedSOLOv2:
    head = HeadConfig(
        features=FEATURES, strides=STRIDES, num_grids=GRIDS, instance_channels=32, instance_convs=2,
        mask_channels=32, kernel_channels=32, scale_ranges=ranges,
    )  # fmt: skip
    ins_head = InstanceHead(in_channels=32, channels=32, num_convs=2, num_classes=5, num_kernels=32, num_grids=GRIDS)
    model = HostedSOLOv2(
        backbone=GivenFeatures(features_of(weights)),
        ins_head=ins_head,
        mask_head=MaskHead(in_channels=32, channels=32, num_masks=32),
        head=head,
        num_classes=5,
        loss=LossConfig(),
        decoding=decoding,
        pixel_mean=(103.53, 116.28, 123.675),
        pixel_std=(1.0, 1.0, 1.0),
    )
    model.load_state_dict({key[3:]: tensor(value) for key, value in weights.items() if key.startswith("sd/")})
    return model


def _entry(golden: dict[str, Any], image: int) -> dict[str, Any]:
    """An input as Detectron2's own mapper makes it: boxes, classes and bitmasks, without alternates or ids."""
    prefix, size = f"gt{image}", tuple(golden[f"gt{image}/size"].tolist())
    found = Instances(size)
    found.gt_boxes = Boxes(tensor(golden[f"{prefix}/boxes"]))
    found.gt_classes = tensor(golden[f"{prefix}/classes"])
    found.gt_masks = BitMasks(torch.from_numpy(unpack(golden[f"{prefix}/masks"], size)))
    return {"image": torch.zeros(3, *SIZES[image]), "instances": found}


def test_whole_model_gives_the_golden_losses_and_gradients():
    golden, weights = load("e2e"), load("heads")
    model = _hosted(weights, Decoding(), golden["scale_ranges"].tolist())
    model.train()
    losses = model([_entry(golden, 0), _entry(golden, 1)])
    for name, loss in losses.items():
        torch.testing.assert_close(loss, torch.tensor(golden[name]), rtol=1e-5, atol=0)
    torch.stack([*losses.values()]).sum().backward()
    for key, parameter in model.named_parameters():
        expected = tensor(golden[f"grad/{key}"])
        assert parameter.grad is not None, key
        assert (parameter.grad - expected).abs().max() <= 1e-4 * expected.abs().max(), key


def test_whole_model_gives_the_golden_instances_with_boxes_around_their_masks():
    golden, weights = load("e2e"), load("heads")
    model = _hosted(weights, Decoding(score_threshold=float(golden["score_threshold"])), HeadConfig().scale_ranges)
    model.eval()
    outputs = [tuple(golden[f"res{image}/ori_size"].tolist()) for image in range(2)]
    entries = [
        {"image": torch.zeros(3, *size), "height": height, "width": width}
        for size, (height, width) in zip(SIZES, outputs, strict=True)
    ]
    with torch.no_grad():
        results = model(entries)
    for image, result in enumerate(results):
        found = result["instances"]
        torch.testing.assert_close(found.scores, tensor(golden[f"res{image}/scores"]), atol=1e-5, rtol=0)
        assert found.pred_classes.tolist() == golden[f"res{image}/classes"].tolist()
        expected = unpack(golden[f"res{image}/masks"], golden[f"res{image}/mask_shape"]).astype(bool)
        assert np.logical_xor(found.pred_masks.numpy(), expected).sum((1, 2)).max() <= 3
        for box, mask in zip(found.pred_boxes.tensor.tolist(), found.pred_masks.numpy(), strict=True):
            rows, columns = mask.any(1).nonzero()[0], mask.any(0).nonzero()[0]
            assert box == [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]


@pytest.mark.parametrize("case", ["A_default_ranges", "B_small_ranges"])
def test_losses_of_stored_predictions_are_the_golden_ones(case):
    golden = load("losses")
    images = golden[f"{case}/images"].tolist()
    ranges = golden[f"{case}/scale_ranges"].tolist()
    model = _hosted(load("heads"), Decoding(), ranges)
    levels = range(len(GRIDS))
    predictions = Predictions(
        [tensor(golden[f"cate_pred/{level}"])[images] for level in levels],
        [tensor(golden[f"kernel_pred/{level}"])[images] for level in levels],
        tensor(golden["mask_pred"])[images],
    )
    entries = []
    for image in images:
        size = tuple(golden[f"gt{image}/size"].tolist())
        found = Instances(size)
        found.gt_boxes = Boxes(tensor(golden[f"gt{image}/boxes"]))
        found.gt_classes = tensor(golden[f"gt{image}/classes"])
        found.gt_masks = BitMasks(torch.from_numpy(unpack(golden[f"gt{image}/masks"], size)))
        entries.append({"image": torch.zeros(3, *size), "instances": found})
    losses = model.losses(predictions, entries)
    for name in ("loss_ins", "loss_cate"):
        torch.testing.assert_close(losses[name], torch.tensor(golden[f"{case}/{name}"]), rtol=1e-5, atol=0)


def test_no_detection_gives_instances_of_the_right_types():
    model = _hosted(load("heads"), Decoding(score_threshold=1.0), HeadConfig().scale_ranges).eval()
    with torch.no_grad():
        found = model([{"image": torch.zeros(3, 128, 160)}, {"image": torch.zeros(3, 117, 149)}])[1]["instances"]
    assert found.image_size == (117, 149)
    assert (found.pred_masks.shape, found.pred_masks.dtype) == ((0, 117, 149), torch.bool)
    assert (found.pred_boxes.tensor.shape, found.pred_classes.dtype) == ((0, 4), torch.int64)
