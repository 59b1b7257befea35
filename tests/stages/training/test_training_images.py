import numpy as np
import pytest

from sapnet_pipe.stages.training.image_batch import (
    ImageTransform,
    batch_images,
    resize_transform,
    transform_boxes,
    transform_masks,
    transform_points,
)


def test_the_short_side_is_met_unless_the_long_side_would_pass_its_limit() -> None:
    assert resize_transform(480, 640, 800, 1333)[:2] == (800, 1067)
    assert resize_transform(400, 1000, 800, 1333)[:2] == (533, 1333)
    assert resize_transform(1, 5000, 800, 1333)[:2] == (1, 1333)


def test_images_are_normalised_and_padded_with_zeros() -> None:
    white = np.full((40, 50, 3), 255, np.uint8)
    batch = batch_images([white, white[:20]], [resize_transform(40, 50, 40, 100), ImageTransform(20, 50, 1, 1, False)])
    assert batch.shape == (2, 3, 64, 64)
    assert batch[0, 0, 0, 0].item() == pytest.approx((1 - 0.485) / 0.229, abs=1e-5)
    assert batch[0, :, 40:].abs().sum() == 0
    assert batch[1, :, 20:].abs().sum() == 0


def test_boxes_points_and_masks_follow_the_pixels() -> None:
    image = np.zeros((30, 40, 3), np.uint8)
    image[10:20, 5:15] = 255
    box, point = np.array([[5, 10, 15, 20]], np.float32), np.array([[6.0, 11.0]], np.float32)
    mask = image[None, :, :, 0] > 0
    for flip in (False, True):
        transform = resize_transform(30, 40, 60, 100, flip=flip)
        bright = batch_images([image], [transform])[0, 0].numpy() > 1.0
        ys, xs = np.nonzero(bright)
        found = np.array([[xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]])
        moved = transform_boxes(box, transform)
        assert np.abs(found - moved).max() <= 1
        x, y = transform_points(point, transform)[0]
        assert bright[int(y), int(x)]
        resized = transform_masks(mask, transform)[0]
        assert (resized != bright[:60, :80]).mean() < 0.02


def test_mirroring_leaves_the_input_as_it_was() -> None:
    points, boxes = np.array([[1.0, 2.0]], np.float32), np.array([[1.0, 2, 3, 4]], np.float32)
    transform = resize_transform(10, 10, 10, 10, flip=True)
    transform_points(points, transform), transform_boxes(boxes, transform)
    assert points.tolist() == [[1, 2]]
    assert boxes.tolist() == [[1, 2, 3, 4]]


def test_no_masks_and_no_images() -> None:
    assert transform_masks(np.zeros((0, 30, 40), bool), resize_transform(30, 40, 60, 100)).shape == (0, 60, 80)
    with pytest.raises(ValueError, match="at least one image"):
        batch_images([], [])


def shortest_edge(height: int, width: int, short: int, long: int) -> tuple[int, int]:
    """The sizes of Detectron2's ResizeShortestEdge."""
    scale = short * 1.0 / min(height, width)
    new_height, new_width = (short, scale * width) if height < width else (scale * height, short)
    if max(new_height, new_width) > long:
        shrink = long * 1.0 / max(new_height, new_width)
        new_height, new_width = new_height * shrink, new_width * shrink
    return int(new_height + 0.5), int(new_width + 0.5)


@pytest.mark.parametrize("short", [640, 672, 800])
def test_sizes_are_those_of_detectron2_to_the_pixel(short: int) -> None:
    shapes = [(height, width) for height in range(97, 641, 17) for width in (333, 427, 480, 500, 601, 640)]
    halves = [(640, 425), (500, 333), (427, 640), (1600, 1001)]
    for height, width in shapes + halves:
        found = resize_transform(height, width, short, 1333)
        assert (found.height, found.width) == shortest_edge(height, width, short, 1333), (height, width)
