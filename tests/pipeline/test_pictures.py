"""Pictures: masks where they belong, labels inside the picture, formats by suffix."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sapnet_pipe.data.coco.masks import encode_mask
from sapnet_pipe.pipeline.pictures.draw import (
    Label,
    Panel,
    draw_labels,
    draw_masks,
    draw_strip,
    object_colour,
    write_picture,
)

GREY = np.full((40, 60, 3), 120, np.uint8)


def _mask(top: int, left: int, bottom: int, right: int) -> bytes:
    mask = np.zeros(GREY.shape[:2], bool)
    mask[top:bottom, left:right] = True
    return encode_mask(mask)


def test_a_mask_colours_its_pixels_and_no_others() -> None:
    picture = draw_masks(GREY, {3: _mask(5, 10, 15, 30)})
    changed = (picture != GREY).any(axis=2)
    assert changed[5:15, 10:30].all()
    assert not changed[:4].any()
    assert not changed[16:].any()
    assert not changed[:, 32:].any()
    expected = (GREY[0, 0] + object_colour(3)) / 2
    np.testing.assert_allclose(picture[10, 20], expected, atol=1)


def test_the_input_of_a_drawing_stays_as_it_was() -> None:
    before = GREY.copy()
    draw_labels(draw_masks(GREY, {1: _mask(0, 0, 40, 60)}), {1: Label("cup 0.90", 3, 3)})
    np.testing.assert_array_equal(GREY, before)


@pytest.mark.parametrize("corner", [(-50, -50), (59, 39), (500, 500), (30, -3)])
def test_a_label_is_drawn_inside_the_picture_wherever_its_corner_is(corner: tuple[float, float]) -> None:
    picture = draw_labels(GREY, {2: Label("cup", *corner)})
    assert picture.shape == GREY.shape
    assert (picture != GREY).any()


def test_a_label_that_is_longer_than_the_picture_starts_at_its_edge() -> None:
    picture = draw_labels(GREY, {2: Label("a very long category name " * 4, 20, 10)})
    assert (picture[10:20, 0] != GREY[0, 0]).any()


@pytest.mark.parametrize(
    ("name", "kind"), [("a.JPG", "JPEG"), ("b.png", "PNG"), ("c.webp", "WEBP"), ("d", "PNG"), ("e.gif2", "PNG")]
)
def test_the_suffix_names_the_format(tmp_path: Path, name: str, kind: str) -> None:
    write_picture(tmp_path / "new" / name, GREY)
    with Image.open(tmp_path / "new" / name) as picture:
        assert (picture.format, picture.size) == (kind, (60, 40))


def test_a_strip_holds_a_panel_for_each_title() -> None:
    panels = [Panel("points", {}, {1: (5.0, 5.0)}), Panel("truth", {1: _mask(5, 10, 15, 30)}, {})]
    strip = draw_strip(GREY, panels)
    one = draw_strip(GREY, panels[:1])
    assert strip.shape == (one.shape[0], 2 * one.shape[1] + 6, 3)
