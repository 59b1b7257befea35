"""Decoding against golden results, and what must hold where the reference breaks."""

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from sapnet_pipe.stages.segment.config import NmsKernel
from sapnet_pipe.stages.segment.solov2 import inference
from sapnet_pipe.stages.segment.solov2.inference import Decoding, boxes_of_masks, find_candidates, full_masks
from sapnet_pipe.stages.segment.solov2.losses import solov2_losses
from sapnet_pipe.stages.segment.solov2.matrix_nms import iou_with_better, mask_nms, matrix_nms, point_nms
from sapnet_pipe.stages.segment.solov2.model import Predictions
from tests.stages.segment.solov2.golden_solov2 import (
    GRIDS,
    STRIDES,
    Found,
    decode,
    features_of,
    load,
    model_of,
    predictions_of,
    targets_of,
    tensor,
    unpack,
)

INFERENCE = load("inference")
NMS = load("nms")
RUNS = sorted({k.split("/")[0] for k in INFERENCE if k.endswith("/params")} - {"quirk_ratio"})


def _decoding(params: np.ndarray) -> Decoding:
    score, update, mask, pre, top, sigma, kernel, kind = params.tolist()
    return Decoding(
        score, update, mask, int(pre), int(top), "mask" if kind else "matrix", "linear" if kernel else "gaussian", sigma
    )


def _assert_equal(found: Found, golden: dict, prefix: str) -> None:
    torch.testing.assert_close(found.scores, tensor(golden[f"{prefix}/scores"]), atol=1e-5, rtol=0)
    assert found.classes.tolist() == golden[f"{prefix}/classes"].tolist()
    expected = unpack(golden[f"{prefix}/masks"], golden[f"{prefix}/mask_shape"]).astype(bool)
    assert np.logical_xor(found.masks.numpy(), expected).sum((1, 2)).max() <= 3
    assert torch.equal(found.box_xyxy, boxes_of_masks(found.masks))


@pytest.mark.parametrize("run", RUNS)
def test_decoding_equals_the_golden_results(run):
    sizes = [tuple(size) for size in INFERENCE["image_sizes"].tolist()]
    outputs = [tuple(INFERENCE[f"{run}/img{image}/ori_size"].tolist()) for image in range(2)]
    with torch.no_grad():
        found = decode(predictions_of(INFERENCE), sizes, outputs, _decoding(INFERENCE[f"{run}/params"]))
    for image in range(2):
        _assert_equal(found[image], INFERENCE, f"{run}/img{image}")


def _as_the_reference_stretches(probabilities: torch.Tensor, size: tuple[int, int], output: tuple[int, int]):
    """Masks enlarged by ceil(image height / map height), where the map is always a quarter of the padded batch."""
    height, width = size
    ratio = -(-height // probabilities.shape[1])
    enlarged = tuple(ratio * side for side in probabilities.shape[1:])
    whole = interpolate(probabilities[None], enlarged, mode="bilinear", align_corners=False)[:, :, :height, :width]
    return interpolate(whole, output, mode="bilinear", align_corners=False)[0] > 0.5


def test_small_images_of_a_batch_have_the_golden_scores_and_masks_that_are_not_stretched():
    run = "quirk_ratio"
    sizes = [tuple(size) for size in INFERENCE[f"{run}/image_sizes"].tolist()]
    with torch.no_grad():
        candidates = find_candidates(predictions_of(INFERENCE), STRIDES, _decoding(INFERENCE["gaussian_same/params"]))
    for image, (best, size) in enumerate(zip(candidates, sizes, strict=True)):
        prefix = f"{run}/img{image}"
        torch.testing.assert_close(best.scores, tensor(INFERENCE[f"{prefix}/scores"]), atol=1e-5, rtol=0)
        assert best.classes.tolist() == INFERENCE[f"{prefix}/classes"].tolist()
        output = tuple(INFERENCE[f"{prefix}/ori_size"].tolist())
        expected = unpack(INFERENCE[f"{prefix}/masks"], INFERENCE[f"{prefix}/mask_shape"]).astype(bool)
        stretched = _as_the_reference_stretches(best.probabilities, size, output)
        assert np.logical_xor(stretched.numpy(), expected).sum((1, 2)).max() <= 3
        ours = full_masks(best.probabilities, size, output, 0.5)
        assert np.logical_xor(ours.numpy(), expected).sum() > 100


def test_chunks_of_candidates_change_nothing(monkeypatch):
    whole = find_candidates(predictions_of(INFERENCE), STRIDES, Decoding(nms_pre=60))
    monkeypatch.setattr(inference, "_CHUNK", 37)
    parts = find_candidates(predictions_of(INFERENCE), STRIDES, Decoding(nms_pre=60))
    for one, other in zip(whole, parts, strict=True):
        assert torch.equal(one.scores, other.scores)
        assert torch.equal(one.classes, other.classes)


@pytest.mark.parametrize("level", range(5))
def test_point_nms_keeps_the_golden_cells(level):
    logits = tensor(INFERENCE[f"cate_pred/{level}"])
    kept = point_nms(logits.sigmoid()).permute(0, 2, 3, 1).reshape(2, -1) > 0
    golden = np.unpackbits(INFERENCE[f"point_nms_keep/{level}"], axis=1, count=GRIDS[level] ** 2 * 5)
    np.testing.assert_array_equal(kept, golden)


def test_point_nms_keeps_ties():
    assert torch.equal(point_nms(tensor(NMS["point/heat"])), tensor(NMS["point/out"]))


def _nms_case(name: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    masks = torch.from_numpy(unpack(NMS[f"{name}/masks"], NMS[f"{name}/shape"])).flatten(1).bool()
    return masks, torch.from_numpy(NMS[f"{name}/labels"]), torch.from_numpy(NMS[f"{name}/scores"])


@pytest.mark.parametrize("name", ["a", "dup", "one"])
def test_nms_equals_the_golden_results(name):
    masks, classes, scores = _nms_case(name)
    cases: tuple[tuple[str, NmsKernel, float], ...] = (
        ("gaussian_s2", "gaussian", 2.0),
        ("gaussian_s05", "gaussian", 0.5),
        ("linear", "linear", 2.0),
    )
    for out, kernel, sigma in cases:
        golden = torch.from_numpy(np.nan_to_num(NMS[f"{name}/out_{out}"], nan=0.0))
        ours = matrix_nms(masks, classes, scores, kernel=kernel, sigma=sigma)
        torch.testing.assert_close(ours, golden, atol=1e-5, rtol=0)
    if name == "a":
        assert masks.sum(1).tolist() == NMS["a/sums"].tolist()
    keep = mask_nms(masks, classes, threshold=0.5)
    assert keep.int().tolist() == NMS[f"{name}/out_mask_nms_keep_t05"].tolist()


def test_third_copy_of_a_mask_gets_zero_where_the_reference_gives_nan():
    assert np.isnan(NMS["dup/out_linear"]).any()
    ours = matrix_nms(*_nms_case("dup"), kernel="linear")
    assert ours.tolist()[3] == 0


def test_overlaps_of_many_masks_equal_a_plain_count():
    generator = torch.Generator().manual_seed(0)
    masks = torch.rand(300, 40, generator=generator) > 0.6
    classes = torch.randint(0, 3, (300,), generator=generator)
    both, either = (masks[:, None] & masks).sum(2), (masks[:, None] | masks).sum(2)
    expected = (both / either * (classes[:, None] == classes)).triu(diagonal=1)
    torch.testing.assert_close(iou_with_better(masks, classes), expected)


def test_nms_of_nothing_is_an_empty_tensor():
    masks, classes, scores = torch.zeros(0, 12, dtype=torch.bool), torch.zeros(0, dtype=torch.int64), torch.zeros(0)
    assert matrix_nms(masks, classes, scores).shape == (0,)
    assert mask_nms(masks, classes).shape == (0,)


def test_no_detection_gives_empty_results_of_the_right_shapes_and_types():
    silent = predictions_of(INFERENCE)
    silent = Predictions([torch.full_like(x, -20) for x in silent.cate_logits], silent.kernels, silent.mask_features)
    found = decode(silent, [(128, 160)] * 2, [(50, 70)] * 2, Decoding())
    for result in found:
        assert (result.scores.shape, result.scores.dtype) == ((0,), torch.float32)
        assert (result.classes.shape, result.classes.dtype) == ((0,), torch.int64)
        assert (result.masks.shape, result.masks.dtype) == ((0, 50, 70), torch.bool)
        assert (result.box_xyxy.shape, result.box_xyxy.dtype) == ((0, 4), torch.float32)


def test_small_image_in_a_large_batch_is_enlarged_by_four_where_the_reference_stretches_it():
    probabilities = torch.zeros(1, 32, 40)
    probabilities[0, 5:10, 5:20] = 1
    mask = full_masks(probabilities, (60, 100), (60, 100), 0.5)
    assert boxes_of_masks(mask).tolist() == [[20, 20, 80, 40]]


def test_boxes_of_masks_are_exclusive_and_zero_for_an_empty_mask():
    masks = torch.zeros(3, 6, 8, dtype=torch.bool)
    masks[0, 2, 3] = True
    masks[1] = True
    assert boxes_of_masks(masks).tolist() == [[3, 2, 4, 3], [0, 0, 8, 6], [0, 0, 0, 0]]


def test_whole_model_equals_the_golden_losses_gradients_and_results():
    golden, weights = load("e2e"), load("heads")
    model = model_of(weights, features_of(weights))
    ranges = golden["scale_ranges"].tolist()
    predictions = model(torch.zeros(2, 3, 128, 160))
    targets = [targets_of(golden, f"gt{image}", (32, 40), scale_ranges=ranges) for image in range(2)]
    losses = solov2_losses(predictions, targets)
    for name, loss in losses.items():
        torch.testing.assert_close(loss, torch.tensor(golden[name]), rtol=1e-5, atol=0)
    torch.stack([*losses.values()]).sum().backward()
    for key, parameter in model.named_parameters():
        expected = tensor(golden[f"grad/{key}"])
        assert parameter.grad is not None, key
        assert (parameter.grad - expected).abs().max() <= 1e-4 * expected.abs().max(), key
    with torch.no_grad():
        predictions = model(torch.zeros(2, 3, 128, 160))
    outputs = [tuple(golden[f"res{image}/ori_size"].tolist()) for image in range(2)]
    decoding = Decoding(score_threshold=float(golden["score_threshold"]))
    for image, found in enumerate(decode(predictions, [(128, 160), (117, 149)], outputs, decoding)):
        _assert_equal(found, golden, f"res{image}")
