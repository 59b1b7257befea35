"""The heads against golden outputs (tolerance 2e-5, as the vectors' notes give it)."""

import pytest
import torch

from sapnet_pipe.stages.segment.solov2.heads import coordinate_maps
from sapnet_pipe.stages.segment.solov2.model import split_levels
from tests.stages.segment.solov2.golden_solov2 import FEATURES, GRIDS, STRIDES, features_of, load, model_of, tensor

ATOL = 2e-5
IMAGE = torch.zeros(2, 3, 128, 160)


@pytest.fixture(scope="module")
def heads() -> dict:
    return load("heads")


def test_coordinates_are_x_then_y_from_minus_one_to_one():
    x, y = coordinate_maps(3, 5, torch.zeros(1))
    assert x[0].tolist() == [-1, -0.5, 0, 0.5, 1]
    assert (x == x[0]).all()
    assert y[:, 0].tolist() == [-1, 0, 1]


def test_split_halves_p2_and_brings_p6_to_the_size_of_p5(heads):
    levels = split_levels(features_of(heads), FEATURES, STRIDES)
    assert [tuple(level.shape[-2:]) for level in levels] == [(16, 20), (16, 20), (8, 10), (4, 5), (4, 5)]
    torch.testing.assert_close(levels[0][:1], tensor(heads["split/0"]).reshape(1, 32, 16, 20), atol=ATOL, rtol=0)
    torch.testing.assert_close(levels[4][:1], tensor(heads["split/4"]).reshape(1, 32, 4, 5), atol=ATOL, rtol=0)


def test_heads_reproduce_the_golden_outputs(heads):
    with torch.no_grad():
        cate, kernels, mask_features = model_of(heads, features_of(heads))(IMAGE)
    for level in range(len(GRIDS)):
        golden = tensor(heads[f"kernel_pred/{level}"])
        torch.testing.assert_close(cate[level], tensor(heads[f"cate_pred/{level}"]), atol=ATOL, rtol=0)
        torch.testing.assert_close(kernels[level][: len(golden)], golden, atol=ATOL, rtol=0)
    for level in (0, 1):
        sparse = tensor(heads[f"kernel_pred_img1_sub3/{level}"])
        torch.testing.assert_close(kernels[level][1, :, ::3, ::3], sparse, atol=ATOL, rtol=0)
    torch.testing.assert_close(mask_features, tensor(heads["mask_pred"]), atol=ATOL, rtol=0)


def test_heads_without_norm_reproduce_the_golden_outputs(heads):
    plain = load("heads_norm_none")
    model = model_of(plain, features_of(heads), norm="none", num_convs=3, mask_channels=16)
    with torch.no_grad():
        cate, kernels, mask_features = model(IMAGE)
    for level in (2, 3, 4):
        shape = (1, -1, GRIDS[level], GRIDS[level])
        golden_cate = tensor(plain[f"cate_pred/{level}"]).reshape(shape)
        torch.testing.assert_close(cate[level][:1], golden_cate, atol=ATOL, rtol=0)
        golden_kernel = tensor(plain[f"kernel_pred/{level}"]).reshape(shape)
        torch.testing.assert_close(kernels[level][:1], golden_kernel, atol=ATOL, rtol=0)
    golden_mask = tensor(plain["mask_pred"]).reshape(1, 32, 32, 40)
    torch.testing.assert_close(mask_features[:1], golden_mask, atol=ATOL, rtol=0)


def test_an_untrained_head_scores_every_cell_at_the_prior(heads):
    from sapnet_pipe.stages.segment.solov2.heads import InstanceHead

    head = InstanceHead(
        in_channels=32, channels=32, num_convs=1, num_classes=3, num_kernels=8, num_grids=(4,), prior_prob=0.01
    )
    assert head.cate_pred.bias is not None
    assert torch.allclose(head.cate_pred.bias.sigmoid(), torch.full((3,), 0.01))
    assert head.cate_tower[0].bias is None
    assert 0.005 < head.cate_tower[0].weight.std() < 0.015
