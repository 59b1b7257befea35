"""Outlines of masks: hand-worked ones, and that every rule of filling gives the mask again."""

import numpy as np
import pytest

from sapnet_pipe.data.coco.masks import Mask
from sapnet_pipe.data.exports.fidelity import mask_iou
from sapnet_pipe.data.exports.shapes.outlines import corners_of, parts_of
from sapnet_pipe.data.exports.shapes.polygons import bridged, in_pixels, inset, joined, simplified
from sapnet_pipe.data.exports.shapes.rasters import fill_as_coco, fill_as_labelme, fill_as_opencv, fill_centres


def drawn(*rows: str) -> Mask:
    """A mask of text: # is True."""
    return np.array([[letter == "#" for letter in row] for row in rows])


def random_mask(seed: int, side: int = 24, share: float = 0.5) -> Mask:
    return np.random.default_rng(seed).random((side, side + 3)) < share


RING = drawn(".....", ".###.", ".#.#.", ".###.", ".....")
TOUCHING = drawn("##..", "##..", "..##", "..##")
OPEN_CORNER = drawn("###", "#.#", "##.")
CASES = {
    "one pixel": drawn("...", ".#.", "..."),
    "full": np.ones((4, 6), np.bool_),
    "ring": RING,
    "two parts": drawn("##...", "##...", "....#"),
    "touching": TOUCHING,
    "touching otherwise": TOUCHING[::-1],
    "open corner": OPEN_CORNER,
    "open corner otherwise": OPEN_CORNER[::-1],
    "island in a hole": np.pad(RING, 3, constant_values=True),
    "line": drawn("#.#", "###", "..#"),
    **{f"random {seed}": random_mask(seed, share=0.2 + 0.15 * (seed % 5)) for seed in range(20)},
}
masks = pytest.mark.parametrize("mask", [pytest.param(mask, id=name.replace(" ", "-")) for name, mask in CASES.items()])


def test_the_outline_of_one_pixel_is_its_four_corners_from_the_top_left() -> None:
    (part,) = parts_of(CASES["one pixel"])
    assert part.outer[:, :2].tolist() == [[1, 1], [2, 1], [2, 2], [1, 2]]
    assert in_pixels(part.outer, 0.25, 0.5).tolist() == [[1.25, 1.25], [1.5, 1.25], [1.5, 1.5], [1.25, 1.5]]
    assert inset(part.outer, 0.25).tolist() == [[1.25, 1.25], [1.75, 1.25], [1.75, 1.75], [1.25, 1.75]]
    assert part.holes == ()


def test_a_hole_runs_the_other_way_round() -> None:
    (part,) = parts_of(RING)
    assert part.outer[:, :2].tolist() == [[1, 1], [4, 1], [4, 4], [1, 4]]
    (hole,) = part.holes
    assert sorted(hole[:, :2].tolist()) == [[2, 2], [2, 3], [3, 2], [3, 3]]


def test_pixels_that_touch_at_a_corner_are_two_parts_and_a_hole_open_at_a_corner_is_a_hole() -> None:
    assert len(parts_of(TOUCHING)) == 2
    (part,) = parts_of(OPEN_CORNER)
    assert len(part.holes) == 1


def test_a_mask_without_pixels_has_no_parts() -> None:
    assert parts_of(np.zeros((3, 4), np.bool_)) == []


@masks
def test_every_ring_is_simple_and_turns_at_every_corner(mask: Mask) -> None:
    for part in parts_of(mask):
        for ring in (part.outer, *part.holes):
            xy = corners_of(ring)
            assert len(np.unique(xy, axis=0)) == len(xy)
            steps = np.roll(xy, -1, axis=0) - xy
            assert ((steps != 0).sum(axis=1) == 1).all()
            inner = np.floor(inset(ring, 0.5)).astype(int)
            assert mask[inner[:, 1], inner[:, 0]].all(), "the steps lead into the mask"


@masks
def test_geometry_gives_the_mask_again(mask: Mask) -> None:
    rings = [ring[:, :2].astype(float) for part in parts_of(mask) for ring in (part.outer, *part.holes)]
    np.testing.assert_array_equal(fill_centres(rings, *mask.shape), mask)


@masks
def test_bridges_hold_the_holes_for_every_reader_that_counts_crossings(mask: Mask) -> None:
    rings = [bridged(part, mask) for part in parts_of(mask)]
    exact = [ring[:, :2].astype(float) for ring in rings]
    np.testing.assert_array_equal(fill_centres(exact, *mask.shape), mask)
    np.testing.assert_array_equal(fill_as_coco(exact, *mask.shape), mask)
    for place in ((0.02, 0.02), (0.4, 0.48)):
        opencv = np.any([fill_as_opencv(in_pixels(ring, *place), *mask.shape) for ring in rings], axis=0)
        np.testing.assert_array_equal(opencv, mask)


@masks
def test_outer_rings_are_the_mask_without_holes(mask: Mask) -> None:
    rings = [part.outer for part in parts_of(mask)]
    exact = [ring[:, :2].astype(float) for ring in rings]
    filled = np.any([fill_centres([ring], *mask.shape) for ring in exact], axis=0)
    assert (filled | ~mask).all()
    np.testing.assert_array_equal(fill_as_coco(exact, *mask.shape), filled)
    insets = [inset(ring, 0.02) for ring in rings]
    opencv = np.any([fill_as_opencv(ring, *mask.shape) for ring in insets], axis=0)
    np.testing.assert_array_equal(opencv, filled)
    np.testing.assert_array_equal(fill_as_labelme(insets, *mask.shape), filled)


def test_two_parts_are_joined_where_they_are_nearest() -> None:
    mask = np.zeros((12, 30), np.bool_)
    mask[1:11, 1:11] = mask[1:11, 14:24] = True
    whole = fill_as_opencv(inset(joined([part.outer for part in parts_of(mask)]), 0.02), *mask.shape)
    assert (whole | ~mask).all()
    assert np.count_nonzero(whole & ~mask) == 3  # the line between them
    assert mask_iou(whole, mask) == pytest.approx(200 / 203)


def test_a_tolerance_leaves_corners_out() -> None:
    y, x = np.mgrid[:40, :40]
    disk = (x - 20) ** 2 + (y - 20) ** 2 < 15**2
    (part,) = parts_of(disk)
    fewer = simplified(part.outer, 1.0)
    assert len(fewer) < len(part.outer) / 2
    assert mask_iou(fill_centres([fewer[:, :2].astype(float)], 40, 40), disk) > 0.9
    assert simplified(part.outer, 0.0) is part.outer
    assert simplified(part.outer, 100.0) is part.outer, "a ring keeps three corners"
