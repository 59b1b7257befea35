"""Cells, small masks and geometry against golden targets, all exact, and against a slow reading of the rules."""

from typing import Any

import numpy as np
import pytest
import torch

from sapnet_pipe.stages.segment.solov2.mask_geometry import measure_masks, quarter_masks
from sapnet_pipe.stages.segment.solov2.targets import _cell_of, build_targets
from tests.stages.segment.solov2.golden_solov2 import FIRST_CELL, GRIDS, NUM_CLASSES, load, targets_of, unpack

TARGETS = load("targets")
CASES = sorted({key.split("/")[0] for key in TARGETS})
SMALL: dict[str, Any] = {"feat_size": (16, 16), "num_grids": (8, 4), "scale_ranges": ((1, 24), (16, 64)), "sigma": 0.2}


@pytest.mark.parametrize("case", CASES)
def test_targets_equal_the_golden_ones_bit_for_bit(case):
    settings = {"scale_ranges": TARGETS[f"{case}/scale_ranges"].tolist(), "sigma": float(TARGETS[f"{case}/sigma"])}
    feat_size = TARGETS[f"{case}/feat_size"]
    ours = targets_of(TARGETS, case, feat_size, **settings)
    for level, grid in enumerate(GRIDS):
        golden = {
            k: TARGETS[f"{case}/L{level}/{k}"] for k in ("cate_label", "ins_ind_label", "grid_order", "ins_label")
        }
        first, last = FIRST_CELL[level], FIRST_CELL[level + 1]
        np.testing.assert_array_equal(ours.category[first:last].view(grid, grid), golden["cate_label"])
        here = (ours.cell >= first) & (ours.cell < last)
        np.testing.assert_array_equal(ours.cell[here] - first, golden["grid_order"])
        np.testing.assert_array_equal(ours.category[first:last] < NUM_CLASSES, golden["ins_ind_label"].astype(bool))
        masks = unpack(golden["ins_label"], feat_size)
        np.testing.assert_array_equal(ours.masks[ours.instance[here]], masks)


@pytest.mark.parametrize("case", CASES)
def test_how_far_the_golden_coordinates_are_from_borders_of_cells(case):
    # Only where they lie on borders does the answer hang on how a float32 division is rounded.
    masks = unpack(TARGETS[f"{case}/masks"], TARGETS[f"{case}/size"])
    boxes, geometry = TARGETS[f"{case}/boxes"].astype(np.float64), measure_masks(masks)
    size = boxes[:, 2:] - boxes[:, :2]
    padded = 4 * TARGETS[f"{case}/feat_size"][::-1]
    reach = 0.5 * size * float(TARGETS[f"{case}/sigma"])
    margin = 1.0
    for grid in GRIDS:
        here = geometry.area > 0
        centre = geometry.center_xy[here].astype(np.float64)
        cells = np.stack([centre - reach[here], centre, centre + reach[here]]) / padded * grid
        distance = np.abs(cells - np.round(cells))
        margin = min(margin, distance.min(initial=1.0))
    assert margin == pytest.approx(float(TARGETS[f"{case}/margin"]), abs=1e-5)
    assert (margin < 1e-5) == bool(TARGETS[f"{case}/exact_boundary"])


@pytest.mark.parametrize("index", range(5))
def test_quarter_masks_equal_the_golden_ones_bit_for_bit(index):
    golden = load("elementary")
    masks = unpack(golden[f"rescale{index}/masks"], golden[f"rescale{index}/shape"])
    height, width = golden[f"rescale{index}/out_shape"][-2:]
    expected = unpack(golden[f"rescale{index}/out"], (height, width))
    padded = quarter_masks(masks, (int(height) + 3, int(width) + 2))
    np.testing.assert_array_equal(padded[:, :height, :width], expected)
    assert padded[:, height:].sum() == padded[:, :, width:].sum() == 0


def test_geometry_gives_golden_centres_and_tight_boxes():
    golden = load("elementary")
    masks = unpack(golden["com/masks"], golden["com/shape"])
    geometry = measure_masks(masks)
    np.testing.assert_array_equal(geometry.center_xy, np.stack([golden["com/center_x"], golden["com/center_y"]], 1))
    for mask, box, area in zip(masks, geometry.box_xyxy, geometry.area, strict=True):
        rows, columns = np.nonzero(mask)
        expected = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1] if area else [0, 0, 0, 0]
        assert box.tolist() == expected
        assert area == len(rows)


@pytest.mark.parametrize("shape", [(0, 5, 7), (1, 1, 1)], ids=["no mask", "one pixel"])
def test_geometry_of_next_to_nothing_has_its_shapes(shape):
    geometry = measure_masks(np.ones(shape, np.uint8))
    assert geometry.area.shape == (shape[0],)
    assert geometry.center_xy.shape == (shape[0], 2)
    assert geometry.box_xyxy.shape == (shape[0], 4)


@pytest.mark.parametrize("grid", [*GRIDS, 20, 10, 6])
def test_cells_on_exact_borders_follow_torch_floor_divide(grid):
    for padded in (128, 160, 640, 800, 1344):
        position = np.concatenate([np.arange(padded), np.arange(4 * padded) / 4]).astype(np.float32)
        expected = torch.floor_divide(torch.from_numpy(position) / padded, 1.0 / grid)
        ours = _cell_of(position, padded, np.array([[grid]]))[0]
        np.testing.assert_array_equal(ours, expected.long())


def test_image_without_instances_is_all_background_where_the_reference_crashes():
    ours = build_targets(np.zeros((0, 64, 64), np.uint8), np.zeros(0, np.int64), num_classes=3, **SMALL)
    assert ours.category.tolist() == [3] * 80
    assert ours.cell.shape == ours.instance.shape == (0,)
    assert ours.masks.shape == (0, 16, 16)
    assert ours.alternates.shape == (0, 0)


def test_alternates_get_rows_of_their_own_and_no_cells():
    masks = np.zeros((3, 64, 64), np.uint8)
    masks[0, 8:24, 8:24] = masks[1, 40:56, 8:24] = masks[2, 8:24, 40:56] = 1
    alternates = [np.ones((2, 64, 64), np.uint8), np.zeros((0, 64, 64), np.uint8), np.zeros((1, 64, 64), np.uint8)]
    classes = np.array([0, 1, 2])
    plain = build_targets(masks, classes, num_classes=3, **SMALL)
    ours = build_targets(masks, classes, alternates, num_classes=3, **SMALL)
    assert ours.alternates.tolist() == [[3, 4], [-1, -1], [5, -1]]
    assert ours.masks.shape == (6, 16, 16)
    assert ours.masks[3:].float().mean((1, 2)).tolist() == [1, 1, 0]
    for name in ("category", "cell", "instance"):
        assert torch.equal(getattr(ours, name), getattr(plain, name))


def test_more_than_128_instances_on_a_level_pass_where_the_reference_crashes():
    masks = np.zeros((500, 64, 64), np.uint8)
    for index, mask in enumerate(masks):
        mask[index % 56 : index % 56 + 8, index // 56 * 6 : index // 56 * 6 + 8] = 1
    ours = build_targets(masks, np.arange(500) % 3, num_classes=3, **SMALL)
    assert set(ours.instance.tolist()) == set(range(500))
