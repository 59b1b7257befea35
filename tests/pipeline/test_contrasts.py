"""Objects on which two choices differ: which come first, how they are cut out, and edges of photographs."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sapnet_pipe.data.coco.instances import ImageRecord
from sapnet_pipe.data.coco.masks import encode_mask
from sapnet_pipe.pipeline.pictures.contrasts import (
    Contrast,
    contrast_of,
    draw_contrast,
    draw_contrasts,
    most_different,
    under,
)

SIZE = (60, 100)
RECORD = ImageRecord(1, "a.png", *SIZE)


def mask(left: int, top: int, right: int, bottom: int) -> bytes:
    whole = np.zeros(SIZE, bool)
    whole[top:bottom, left:right] = True
    return encode_mask(whole)


def contrast(first: bytes, last: bytes, *, point_id: int = 1, truth: bytes | None = None, **others: float) -> Contrast:
    """One object clicked at (20, 20), with other clicks at (name's number, 20)."""
    clicks = {point_id: (20.0, 20.0), **{int(name[1:]) + 100: (x, 20.0) for name, x in others.items()}}
    return contrast_of(RECORD, point_id, "cup", clicks, {"SAM top-1": first, "sapnet": last}, truth)


def test_the_most_different_come_first_and_equal_choices_are_left_out() -> None:
    whole, half, tenth = mask(10, 10, 30, 30), mask(10, 10, 20, 30), mask(10, 10, 12, 30)
    found = [
        contrast(whole, whole, point_id=1),
        contrast(whole, half, point_id=2),
        contrast(tenth, whole, point_id=3),
        contrast(half, whole, point_id=4),
    ]
    assert [round(one.agreement, 3) for one in found] == [1.0, 0.5, 0.1, 0.5]
    assert [one.point_id for one in most_different(found)] == [3, 2, 4]
    assert [one.point_id for one in most_different(found, 1)] == [3]


def test_a_neighbour_is_a_click_in_the_boxes_of_the_masks() -> None:
    small, large = mask(10, 10, 30, 30), mask(10, 10, 70, 30)
    assert not contrast(small, small, p1=65.0).near
    assert contrast(small, large, p1=65.0).near
    assert contrast(large, small, p1=65.0).near
    assert not contrast(small, large).near


def test_an_object_under_fewer_choices_compares_the_first_with_the_last_of_them() -> None:
    masks = {"a": mask(0, 0, 10, 10), "b": mask(0, 0, 10, 20), "c": mask(0, 0, 10, 40)}
    found = contrast_of(RECORD, 1, "cup", {1: (5.0, 5.0)}, masks, None)
    assert found.agreement == pytest.approx(0.25)
    fewer = under(found, "b", "c")
    assert list(fewer.masks) == ["b", "c"]
    assert fewer.agreement == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("first", "last"),
    [
        pytest.param(mask(40, 20, 60, 40), mask(40, 20, 50, 40), id="within"),
        pytest.param(mask(0, 0, 100, 60), mask(0, 0, 1, 1), id="the whole photograph and one pixel in its corner"),
        pytest.param(mask(90, 50, 100, 60), mask(0, 0, 0, 0), id="at the border, and nothing"),
    ],
)
def test_an_object_is_shown_under_every_choice_with_its_box(first: bytes, last: bytes) -> None:
    grey = np.full((*SIZE, 3), 120, np.uint8)
    without = draw_contrast(grey, contrast(first, last))
    known = draw_contrast(grey, contrast(first, last, truth=first))
    assert without.shape == known.shape, "three panels: the photograph or the truth, and both choices"
    colours = {tuple(pixel) for pixel in known.reshape(-1, 3).tolist()}
    assert (40, 90, 230) in colours, "the first choice's box is blue"
    assert ((230, 40, 40) in colours) == (last != mask(0, 0, 0, 0)), "the last one's is red"


def test_photographs_are_read_for_what_is_drawn_alone_and_equal_choices_draw_nothing(tmp_path: Path) -> None:
    Image.fromarray(np.full((*SIZE, 3), 90, np.uint8)).save(tmp_path / "a.png")
    whole, half = mask(10, 10, 30, 30), mask(10, 10, 20, 30)
    out = tmp_path / "out" / "differences.png"
    assert draw_contrasts(out, [contrast(whole, whole)], tmp_path / "nowhere", source="labels", quiet=True) == 0
    assert not out.exists()
    three = [contrast(whole, half, point_id=key) for key in (1, 2, 3)]
    assert draw_contrasts(out, three, tmp_path, source="labels", quiet=True) == 3
    with Image.open(out) as picture:
        one = draw_contrast(np.full((*SIZE, 3), 90, np.uint8), three[0])
        assert picture.size == (2 * one.shape[1], 2 * one.shape[0])
