"""The plain implementation that `make bench-seg` compares with computes what the golden vectors say: it is honest."""

import numpy as np
import pytest
import torch

from tests.stages.segment.solov2.golden_solov2 import features_of, load, model_of, predictions_of, tensor, unpack
from tests.stages.segment.solov2.reference_solov2 import (
    GRIDS,
    Outputs,
    PlainSOLOv2,
    plain_inference,
    plain_losses,
    plain_matrix_nms,
    plain_targets,
)

TARGETS = load("targets")
CASES = sorted({key.split("/")[0] for key in TARGETS})


def _targets(golden, prefix, feat_size, **options):
    masks = torch.from_numpy(unpack(golden[f"{prefix}/masks"], golden[f"{prefix}/size"]))
    boxes, classes = torch.from_numpy(golden[f"{prefix}/boxes"]), torch.from_numpy(golden[f"{prefix}/classes"])
    height, width = map(int, feat_size)
    return plain_targets(boxes, classes, masks, (height, width), num_classes=5, **options)


def test_its_heads_give_the_golden_outputs():
    weights = load("heads")
    with torch.no_grad():
        outputs = PlainSOLOv2(model_of(weights, features_of(weights)))(torch.zeros(2, 3, 128, 160))
    for level in range(len(GRIDS)):
        torch.testing.assert_close(outputs.cate[level], tensor(weights[f"cate_pred/{level}"]), atol=2e-5, rtol=0)
        golden = tensor(weights[f"kernel_pred/{level}"])
        torch.testing.assert_close(outputs.kernels[level][: len(golden)], golden, atol=2e-5, rtol=0)
    torch.testing.assert_close(outputs.mask, tensor(weights["mask_pred"]), atol=2e-5, rtol=0)


@pytest.mark.parametrize("case", CASES)
def test_its_targets_are_the_golden_ones(case):
    feat_size, ranges = TARGETS[f"{case}/feat_size"], TARGETS[f"{case}/scale_ranges"].tolist()
    levels = _targets(TARGETS, case, feat_size, ranges=ranges, sigma=float(TARGETS[f"{case}/sigma"]))
    for level, found in enumerate(levels):
        prefix = f"{case}/L{level}"
        np.testing.assert_array_equal(found.cate, TARGETS[f"{prefix}/cate_label"])
        np.testing.assert_array_equal(found.hit, TARGETS[f"{prefix}/ins_ind_label"].astype(bool))
        assert found.cells == TARGETS[f"{prefix}/grid_order"].tolist()
        np.testing.assert_array_equal(found.masks, unpack(TARGETS[f"{prefix}/ins_label"], feat_size))


@pytest.mark.parametrize("case", ["A_default_ranges", "B_small_ranges"])
def test_its_losses_and_gradients_are_the_golden_ones(case):
    golden = load("losses")
    images, ranges = golden[f"{case}/images"], golden[f"{case}/scale_ranges"].tolist()
    outputs = Outputs(*predictions_of(golden, torch.from_numpy(images)))
    losses = plain_losses(outputs, [_targets(golden, f"gt{i}", (32, 40), ranges=ranges) for i in images], 5)
    for name in ("loss_ins", "loss_cate"):
        torch.testing.assert_close(losses[name], torch.tensor(golden[f"{case}/{name}"]), rtol=1e-5, atol=0)
    (losses["loss_ins"] + losses["loss_cate"]).backward()
    torch.testing.assert_close(outputs.mask.grad, tensor(golden[f"{case}/grad_mask"]), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", ["a", "dup", "one"])
def test_its_matrix_nms_gives_the_golden_scores(name):
    golden = load("nms")
    masks = torch.from_numpy(unpack(golden[f"{name}/masks"], golden[f"{name}/shape"])).bool()
    labels, scores = torch.from_numpy(golden[f"{name}/labels"]), torch.from_numpy(golden[f"{name}/scores"])
    expected = torch.from_numpy(golden[f"{name}/out_gaussian_s2"])
    torch.testing.assert_close(plain_matrix_nms(masks, labels, scores), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("out", ["same", "up", "down"])
def test_its_inference_gives_the_golden_instances(out):
    golden = load("inference")
    sizes = [tuple(size) for size in golden["image_sizes"].tolist()]
    for image, size in enumerate(sizes):
        prefix = f"gaussian_{out}/img{image}"
        if f"{prefix}/ori_size" not in golden:
            pytest.skip(f"the vectors have no {prefix}")
        with torch.no_grad():
            outputs = Outputs(*predictions_of(golden))
            found = plain_inference(outputs, image, size, tuple(golden[f"{prefix}/ori_size"].tolist()))
        torch.testing.assert_close(found.scores, tensor(golden[f"{prefix}/scores"]), atol=1e-5, rtol=0)
        assert found.classes.tolist() == golden[f"{prefix}/classes"].tolist()
        expected = unpack(golden[f"{prefix}/masks"], golden[f"{prefix}/mask_shape"]).astype(bool)
        assert np.logical_xor(found.masks.numpy(), expected).sum((1, 2)).max() <= 3
