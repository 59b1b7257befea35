"""Detectron2 augmentations that resize pixels as `predict` does, and that can be told what was drawn for them."""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from detectron2.config import CfgNode
from detectron2.data import transforms as T
from numpy.typing import NDArray

from sapnet_pipe.stages.segment.batches import Draw
from sapnet_pipe.stages.training.image_batch import resize_image, resize_transform


class DrawnInput(T.AugInput):
    """An AugInput with the draw of this image; None lets the augmentations draw for themselves."""

    def __init__(self, image: NDArray[np.uint8], draw: Draw | None) -> None:
        super().__init__(image)
        self.draw = draw


class ExactResize(T.Transform):
    """Resize as the builtin engine does: pixels averaged down or bilinear up, masks by their nearest pixel.

    Args:
        height, width: Before; `new_height`, `new_width` after.
    """

    def __init__(self, height: int, width: int, new_height: int, new_width: int) -> None:
        super().__init__()
        self.height, self.width, self.new_height, self.new_width = height, width, new_height, new_width

    def apply_image(self, img: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(H, W, 3) uint8."""
        return resize_image(img, self.new_height, self.new_width)

    def apply_segmentation(self, segmentation: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(H, W) uint8."""
        size = (self.new_width, self.new_height)
        return np.asarray(cv2.resize(segmentation, size, interpolation=cv2.INTER_NEAREST_EXACT), np.uint8)

    def apply_coords(self, coords: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N, 2) x, y."""
        return coords * np.asarray([self.new_width / self.width, self.new_height / self.height])

    def inverse(self) -> "ExactResize":
        """The way back."""
        return ExactResize(self.new_height, self.new_width, self.height, self.width)


class ResizeShortSide(T.Augmentation):
    """`T.ResizeShortestEdge` with our pixels.

    Args:
        sides: Of these one is drawn; with ``range`` any size from the first to the second.
        long_side: Limit of the long side.
    """

    def __init__(self, sides: Sequence[int], long_side: int, sampling: str = "choice") -> None:
        super().__init__()
        self.sides, self.long_side = side_choices(sides, sampling), long_side

    def get_transform(self, image: NDArray[np.uint8], draw: Draw | None) -> T.Transform:
        """The resize of this image."""
        height, width = image.shape[:2]
        side = int(np.random.choice(self.sides)) if draw is None else draw.short_side
        transform = resize_transform(height, width, side, self.long_side)
        return ExactResize(height, width, transform.height, transform.width)


class DrawnFlip(T.RandomFlip):
    """`T.RandomFlip` that does what was drawn for the image."""

    def get_transform(self, image: NDArray[np.uint8], draw: Draw | None) -> T.Transform:
        """Mirror, or nothing."""
        if draw is None:
            return super().get_transform(image)
        if not draw.flip:
            return T.NoOpTransform()
        height, width = image.shape[:2]
        return T.HFlipTransform(width) if self.horizontal else T.VFlipTransform(height)


def side_choices(sides: Sequence[int], sampling: str) -> list[int]:
    """The short sides that ``INPUT.MIN_SIZE_TRAIN`` and ``INPUT.MIN_SIZE_TRAIN_SAMPLING`` stand for."""
    return list(range(sides[0], sides[1] + 1)) if sampling == "range" and len(sides) == 2 else list(sides)


def build_augmentations(cfg: CfgNode, is_train: bool) -> list[Any]:
    """As Detectron2 builds them out of ``INPUT``: perhaps a crop, the resize, perhaps a flip."""
    if not is_train:
        return [ResizeShortSide([cfg.INPUT.MIN_SIZE_TEST], cfg.INPUT.MAX_SIZE_TEST)]
    steps: list[Any] = []
    if cfg.INPUT.CROP.ENABLED:
        steps.append(T.RandomCrop(cfg.INPUT.CROP.TYPE, cfg.INPUT.CROP.SIZE))
    steps.append(ResizeShortSide(cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MAX_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING))
    if cfg.INPUT.RANDOM_FLIP != "none":
        steps.append(
            DrawnFlip(horizontal=cfg.INPUT.RANDOM_FLIP == "horizontal", vertical=cfg.INPUT.RANDOM_FLIP == "vertical")
        )
    return steps
