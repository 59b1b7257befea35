import numpy as np
import pytest
from pycocotools import mask as coco_mask

from sapnet_pipe.data.boxes import mask_to_box
from sapnet_pipe.data.coco.masks import (
    check_counts,
    counts_of_runs,
    decode_mask,
    decode_masks,
    encode_mask,
    encode_masks,
    rle_area,
    rle_box,
    rle_contains,
    rle_iou,
    runs_of,
)


def random_masks(count: int = 60) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    shapes = rng.integers(1, 40, (count, 2))
    return [rng.random(tuple(shape)) < density for shape, density in zip(shapes, rng.random(count), strict=True)]


def test_encoding_and_decoding_gives_the_mask_back():
    for mask in [*random_masks(), np.zeros((3, 4), bool), np.ones((3, 4), bool), np.eye(300, dtype=bool)]:
        counts = encode_mask(mask)
        np.testing.assert_array_equal(decode_mask(counts, *mask.shape), mask)
        assert counts == coco_mask.encode(np.asfortranarray(mask, np.uint8))["counts"]


def test_our_run_lengths_are_those_of_pycocotools():
    for mask in random_masks():
        counts = encode_mask(mask)
        assert counts_of_runs(runs_of(counts).tolist(), *mask.shape) == counts


def test_a_stack_is_encoded_like_its_single_masks():
    masks = np.random.default_rng(1).random((5, 9, 13)) < 0.4
    counts = encode_masks(masks)
    assert counts == [encode_mask(mask) for mask in masks]
    np.testing.assert_array_equal(decode_masks(counts, 9, 13), masks)


def test_empty_stacks_keep_their_shape():
    assert encode_masks(np.zeros((0, 4, 5), bool)) == []
    assert decode_masks([], 4, 5).shape == (0, 4, 5)
    assert rle_iou([], [encode_mask(np.ones((4, 5), bool))], 4, 5).shape == (0, 1)


def test_area_and_box_of_a_code_are_those_of_its_mask():
    for mask in [*random_masks(), np.zeros((3, 4), bool)]:
        counts = encode_mask(mask)
        assert rle_area(counts, *mask.shape) == mask.sum()
        np.testing.assert_array_equal(rle_box(counts, *mask.shape), mask_to_box(mask))


def test_iou_of_codes_is_that_of_their_pixels():
    a, b = np.random.default_rng(2).random((2, 4, 12, 15)) < 0.5
    expected = [[(x & y).sum() / (x | y).sum() for y in b] for x in a]
    np.testing.assert_allclose(rle_iou(encode_masks(a), encode_masks(b), 12, 15), expected, rtol=1e-12)


def test_points_lie_on_a_code_where_they_lie_on_its_mask():
    rng = np.random.default_rng(3)
    mask = rng.random((7, 9)) < 0.5
    xy = (rng.random((200, 2)) * (13, 11) - 2).astype(np.float32)  # some beside the image
    column, row = np.floor(xy).astype(int).T
    inside = (column >= 0) & (column < 9) & (row >= 0) & (row < 7)
    expected = inside & mask[row.clip(0, 6), column.clip(0, 8)]
    assert rle_contains(encode_mask(mask), 7, 9, xy).tolist() == expected.tolist()
    assert 0 < expected.sum() < inside.sum()


def test_two_empty_masks_have_no_overlap():
    nothing = encode_mask(np.zeros((4, 4), bool))
    assert rle_iou([nothing], [nothing], 4, 4)[0, 0] == 0


@pytest.mark.parametrize(
    "counts",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\xff\xff", id="foreign characters"),
        pytest.param(encode_mask(np.eye(40, dtype=bool))[:-1], id="truncated"),
        pytest.param(b"oooo", id="number without end"),
        pytest.param(b"o" * 12 + b"0", id="number of 65 bits"),
        pytest.param(encode_mask(np.eye(39, dtype=bool)), id="other size"),
        pytest.param(b"`1O", id="negative run"),
    ],
)
def test_damaged_codes_are_refused_before_c_code_sees_them(counts):
    with pytest.raises(ValueError, match="the counts"):
        check_counts(counts, 40, 40)
    with pytest.raises(ValueError, match="the counts"):
        decode_mask(counts, 40, 40)
    with pytest.raises(ValueError, match="the counts"):
        rle_iou([counts], [encode_mask(np.eye(40, dtype=bool))], 40, 40)
    with pytest.raises(ValueError, match="the counts"):
        rle_area(counts, 40, 40)
    with pytest.raises(ValueError, match="the counts"):
        rle_box(counts, 40, 40)
