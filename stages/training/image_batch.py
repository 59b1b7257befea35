"""From uint8 photographs to one normalised, padded network input, with boxes, points and masks alongside.

An `ImageTransform` is how one original image lies in the network's input: scaled, then perhaps mirrored.
"""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
STRIDE = 32


class ImageTransform(NamedTuple):
    """How an original image (H, W) lies in the network's input: `height` x `width` pixels there, `flipped` or not."""

    height: int
    width: int
    scale_x: float
    scale_y: float
    flipped: bool


def resize_transform(height: int, width: int, short: int, long: int, *, flip: bool = False) -> ImageTransform:
    """The transform that brings the short side to `short` pixels, unless the long side would pass `long`.

    Sizes are rounded as Detectron2's `ResizeShortestEdge` rounds them, to the pixel.
    """
    scale = short / min(height, width)
    sides: tuple[float, float] = (short, scale * width) if height < width else (scale * height, short)
    if max(sides) > long:
        scale = long / max(sides)
        sides = sides[0] * scale, sides[1] * scale
    new_height, new_width = (max(1, int(side + 0.5)) for side in sides)
    return ImageTransform(new_height, new_width, new_width / width, new_height / height, flip)


def batch_images(
    images: Sequence[NDArray[np.uint8]],
    transforms: Sequence[ImageTransform],
    whole: Sequence[ImageTransform] | None = None,
) -> Tensor:
    """Resize, mirror, normalise (ImageNet) and pad uint8 RGB images (H, W, 3) into one batch.

    Args:
        transforms: One per image.
        whole: Those of the global batch of which these images are one rank's part: all ranks pad to the same size.
            None where these images are all.
    Returns: (B, 3, H, W) float32, zero-padded right and below to a multiple of 32; channels last in memory, which
        convolutions on a CPU like best.
    Raises: ValueError if there is no image.
    """
    if not images:
        raise ValueError("a batch needs at least one image")
    whole = transforms if whole is None else whole
    height = _padded(max(transform.height for transform in whole))
    width = _padded(max(transform.width for transform in whole))
    batch = np.zeros((len(images), height, width, 3), np.float32)
    scale = 1.0 / (255.0 * np.asarray(IMAGENET_STD, np.float32))
    shift = np.asarray(IMAGENET_MEAN, np.float32) / np.asarray(IMAGENET_STD, np.float32)
    for row, image, transform in zip(batch, images, transforms, strict=True):
        resized = resize_image(image, transform.height, transform.width)
        mirrored = resized[:, ::-1] if transform.flipped else resized
        row[: transform.height, : transform.width] = mirrored * scale - shift
    return torch.from_numpy(batch).permute(0, 3, 1, 2)


def resize_image(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Resize (H, W, 3): bilinear up, area-averaged down, where plain bilinear would alias."""
    if image.shape[:2] == (height, width):
        return image
    method = cv2.INTER_AREA if height < image.shape[0] else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (width, height), interpolation=method), np.uint8)


def transform_boxes(boxes_xyxy: NDArray[np.float32], transform: ImageTransform) -> NDArray[np.float32]:
    """Boxes (..., 4) from original pixels to the network's input."""
    scaled = (boxes_xyxy * np.array([transform.scale_x, transform.scale_y] * 2, np.float32)).astype(np.float32)
    return _mirror_boxes(scaled, transform.width) if transform.flipped else scaled


def transform_points(points_xy: NDArray[np.float32], transform: ImageTransform) -> NDArray[np.float32]:
    """Points (..., 2) from original pixels to the network's input."""
    scaled = (points_xy * np.array([transform.scale_x, transform.scale_y], np.float32)).astype(np.float32)
    if transform.flipped:
        scaled[..., 0] = transform.width - scaled[..., 0]
    return scaled


def transform_masks(masks: NDArray[np.bool_], transform: ImageTransform) -> NDArray[np.bool_]:
    """Masks (N, H, W) from original pixels to (N, transform.height, transform.width), by nearest neighbour."""
    size = (transform.width, transform.height)
    resized = [cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST_EXACT) for mask in masks]
    stacked = np.stack(resized).astype(bool) if resized else np.zeros((0, transform.height, transform.width), bool)
    return np.ascontiguousarray(stacked[:, :, ::-1]) if transform.flipped else stacked


def _mirror_boxes(boxes: NDArray[np.float32], width: int) -> NDArray[np.float32]:
    mirrored = boxes.copy()
    mirrored[..., 0], mirrored[..., 2] = width - boxes[..., 2], width - boxes[..., 0]
    return mirrored


def _padded(length: int) -> int:
    return -(-length // STRIDE) * STRIDE
