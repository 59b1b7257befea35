import numpy as np
import pytest
import torch

from sapnet_pipe.data.coco.masks import decode_mask, encode_masks
from sapnet_pipe.stages.bags.sam.decoded_masks import (
    colour_changes,
    device_boxes,
    masks_in_memory,
    masks_on_device,
    rle_of_changes,
)

EDGE_CASES = [
    pytest.param(np.zeros((3, 7), bool), id="empty"),
    pytest.param(np.ones((3, 7), bool), id="full"),
    pytest.param(np.eye(5, dtype=bool), id="diagonal from the first to the last pixel"),
    pytest.param(np.ones((1, 1), bool), id="one pixel"),
    pytest.param(np.arange(12).reshape(3, 4) == 11, id="the last pixel"),
    pytest.param(np.arange(12).reshape(3, 4) == 0, id="the first pixel"),
]


@pytest.mark.parametrize("mask", EDGE_CASES)
def test_rles_from_changes_of_colour_are_those_of_pycocotools(mask):
    (places,) = colour_changes(torch.as_tensor(mask[None]))
    assert rle_of_changes(places, *mask.shape) == encode_masks(mask[None])[0]


def test_masks_on_a_device_are_those_in_memory():
    rng = np.random.default_rng(0)
    for _ in range(50):
        height, width = rng.integers(1, 40, 2)
        masks = rng.random((4, height, width)) < rng.choice([0.01, 0.5, 0.99])
        in_memory, on_device = masks_in_memory(masks), masks_on_device(torch.as_tensor(masks))
        for found in (in_memory, on_device):
            assert [make_rle() for make_rle in found.make_rle] == encode_masks(masks)
        np.testing.assert_array_equal(in_memory.box_xyxy, on_device.box_xyxy)
        np.testing.assert_array_equal(in_memory.area, on_device.area)
        assert (in_memory.box_xyxy.dtype, in_memory.area.dtype) == (on_device.box_xyxy.dtype, on_device.area.dtype)


@pytest.mark.parametrize("mask", EDGE_CASES)
def test_boxes_end_after_the_last_pixel_and_are_zero_for_nothing(mask):
    rows, columns = np.nonzero(mask)
    expected = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1] if mask.any() else [0] * 4
    assert masks_in_memory(mask[None]).box_xyxy.tolist() == [expected]
    assert device_boxes(torch.as_tensor(mask[None])).tolist() == [expected]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU: run it on a machine with CUDA")
def test_masks_that_lie_on_a_gpu_come_as_runs():
    masks = np.random.default_rng(0).random((5, 300, 200)) < 0.4
    made = masks_on_device(torch.as_tensor(masks, device="cuda"))
    np.testing.assert_array_equal([decode_mask(make_rle(), 300, 200) for make_rle in made.make_rle], masks)
