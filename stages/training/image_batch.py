"""From uint8 photographs to one normalised, padded network input, and the way back for boxes, points and masks.

B images of a batch; a *view* is how one original image lies in the network's input: scaled, then perhaps mirrored.
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


class View(NamedTuple):
    """How an original image (H, W) lies in the network's input: `height` x `width` pixels there, `flipped` or not."""

    height: int
    width: int
    scale_x: float
    scale_y: float
    flipped: bool


class ImageBatch(NamedTuple):
    """Normalised images, zero-padded right and below to a multiple of 32, and a view per image.

    Attributes:
        images: (B, 3, H, W) float32, channels last in memory, which convolutions on a CPU like best.
    """

    images: Tensor
    views: tuple[View, ...]

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "ImageBatch":
        """The batch on `device`."""
        return self._replace(images=self.images.to(device, non_blocking=non_blocking))


def view_of(height: int, width: int, short: int, long: int, *, flip: bool = False) -> View:
    """The view that brings the short side to `short` pixels, unless the long side would pass `long`."""
    scale = min(short / min(height, width), long / max(height, width))
    new_height, new_width = max(1, round(height * scale)), max(1, round(width * scale))
    return View(new_height, new_width, new_width / width, new_height / height, flip)


def batch_images(
    images: Sequence[NDArray[np.uint8]], views: Sequence[View], whole: Sequence[View] | None = None
) -> ImageBatch:
    """Resize, mirror, normalise (ImageNet) and pad uint8 RGB images (H, W, 3) into one batch.

    Args:
        whole: The views of the batch that these are a share of, all of which are padded to one size; None: these.
    Raises: ValueError if there is no image.
    """
    if not images:
        raise ValueError("a batch needs at least one image")
    whole = views if whole is None else whole
    height = _padded(max(view.height for view in whole))
    width = _padded(max(view.width for view in whole))
    batch = np.zeros((len(images), height, width, 3), np.float32)
    scale = 1.0 / (255.0 * np.asarray(IMAGENET_STD, np.float32))
    shift = np.asarray(IMAGENET_MEAN, np.float32) / np.asarray(IMAGENET_STD, np.float32)
    for row, image, view in zip(batch, images, views, strict=True):
        resized = resize_image(image, view.height, view.width)
        row[: view.height, : view.width] = (resized[:, ::-1] if view.flipped else resized) * scale - shift
    return ImageBatch(torch.from_numpy(batch).permute(0, 3, 1, 2), tuple(views))


def resize_image(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Resize (H, W, 3): bilinear up, area-averaged down, where plain bilinear would alias."""
    if image.shape[:2] == (height, width):
        return image
    method = cv2.INTER_AREA if height < image.shape[0] else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (width, height), interpolation=method), np.uint8)


def boxes_to_view(boxes_xyxy: NDArray[np.float32], view: View) -> NDArray[np.float32]:
    """Boxes (..., 4) from original pixels to the network's input."""
    scaled = (boxes_xyxy * np.array([view.scale_x, view.scale_y] * 2, np.float32)).astype(np.float32)
    return _mirror_boxes(scaled, view.width) if view.flipped else scaled


def boxes_from_view(boxes_xyxy: NDArray[np.float32], view: View) -> NDArray[np.float32]:
    """Boxes (..., 4) from the network's input back to original pixels."""
    boxes = _mirror_boxes(boxes_xyxy, view.width) if view.flipped else boxes_xyxy
    return (boxes / np.array([view.scale_x, view.scale_y] * 2, np.float32)).astype(np.float32)


def points_to_view(points_xy: NDArray[np.float32], view: View) -> NDArray[np.float32]:
    """Points (..., 2) from original pixels to the network's input."""
    scaled = (points_xy * np.array([view.scale_x, view.scale_y], np.float32)).astype(np.float32)
    if view.flipped:
        scaled[..., 0] = view.width - scaled[..., 0]
    return scaled


def masks_to_view(masks: NDArray[np.bool_], view: View) -> NDArray[np.bool_]:
    """Masks (N, H, W) from original pixels to (N, view.height, view.width), by nearest neighbour."""
    size = (view.width, view.height)
    resized = [cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST_EXACT) for mask in masks]
    stacked = np.stack(resized).astype(bool) if resized else np.zeros((0, view.height, view.width), bool)
    return np.ascontiguousarray(stacked[:, :, ::-1]) if view.flipped else stacked


def _mirror_boxes(boxes: NDArray[np.float32], width: int) -> NDArray[np.float32]:
    mirrored = boxes.copy()
    mirrored[..., 0], mirrored[..., 2] = width - boxes[..., 2], width - boxes[..., 0]
    return mirrored


def _padded(length: int) -> int:
    return -(-length // STRIDE) * STRIDE
