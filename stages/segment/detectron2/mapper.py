"""From a dataset dict to what the meta architecture takes: pixels, masks and alternates through every augmentation.

The augmentations resize pixels as `predict` does, and can be told what was drawn for them.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import transforms as T
from numpy.typing import NDArray

from sapnet_pipe.data.coco.masks import decode_masks
from sapnet_pipe.data.coco.segmentations import segmentation_to_counts
from sapnet_pipe.data.images import read_image
from sapnet_pipe.data.pixel_depth import Depth
from sapnet_pipe.stages.segment.batches import Draw
from sapnet_pipe.stages.segment.detectron2.instances import make_instances
from sapnet_pipe.stages.training.image_batch import resize_image, resize_transform

Masks = NDArray[np.uint8]


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


class MaskMapper:
    """A DatasetMapper whose annotations may have ``alternates``, the masks of multi-mask supervision (MPS).

    Masks may be polygons or any dialect of COCO's run lengths. They become bitmasks before they are moved, so that a
    crop needs no polygon library. The image is read by our reader, which turns it the way its annotations were made.

    Args:
        augmentations: Detectron2's or ours; each may ask for ``image`` and ``draw``.
        image_format: RGB or BGR.
    """

    def __init__(self, augmentations: Sequence[Any], *, image_format: str, is_train: bool) -> None:
        self.augmentations = T.AugmentationList(augmentations)
        self.image_format, self.is_train = image_format, is_train

    @classmethod
    def from_cfg(cls, cfg: CfgNode, is_train: bool) -> "MaskMapper":
        """The mapper that ``INPUT`` describes."""
        return cls(build_augmentations(cfg, is_train), image_format=cfg.INPUT.FORMAT, is_train=is_train)

    def __call__(self, dataset_dict: dict[str, Any]) -> dict[str, Any]:
        """Map one image.

        Args:
            dataset_dict: In Detectron2's format; ``draw`` decides size and mirroring, and ``depth`` what becomes of
                more than 8 bits a channel, if they are there.
        Returns: the entries of the dict but the annotations, ``image`` (3, H, W) uint8, and while training
            ``instances`` as `make_instances` has them.
        Raises: UserError if the photograph cannot be read, or does not have the size that the dict says.
        """
        entry = {key: value for key, value in dataset_dict.items() if key not in ("annotations", "draw")}
        height, width = entry.get("height"), entry.get("width")
        depth = Depth.recorded(entry.pop("depth", None), entry["file_name"], "depth")
        pixels = read_image(Path(entry["file_name"]), height, width, depth=depth)
        entry["height"], entry["width"] = pixels.shape[:2]
        given = DrawnInput(pixels[:, :, ::-1] if self.image_format == "BGR" else pixels, dataset_dict.get("draw"))
        transforms = self.augmentations(given)
        entry["image"] = torch.from_numpy(np.ascontiguousarray(given.image.transpose(2, 0, 1)))
        if self.is_train:
            objects = [item for item in dataset_dict.get("annotations", ()) if not item.get("iscrowd", 0)]
            entry["instances"] = _instances(objects, transforms, pixels.shape[:2], given.image.shape[:2], entry)
        return entry


def _instances(
    objects: list[dict[str, Any]],
    transforms: Any,
    size: tuple[int, int],
    new_size: tuple[int, int],
    entry: dict[str, Any],
) -> Any:
    file = entry["file_name"]
    masks = _decoded([item.get("segmentation") for item in objects], size, file)
    others = [_decoded(item.get("alternates") or [], size, file) for item in objects]
    return make_instances(
        _moved(masks, transforms, new_size),
        [item["category_id"] for item in objects],
        [_moved(group, transforms, new_size) for group in others] if any(len(group) for group in others) else None,
        [item.get("id", place) for place, item in enumerate(objects)],
    )


def _decoded(segmentations: Sequence[Any], size: tuple[int, int], file: str) -> Masks:
    """Masks (N, H, W) uint8 of any of COCO's forms."""
    height, width = size
    counts = [segmentation_to_counts(item, height, width, file=file, field="segmentation") for item in segmentations]
    return decode_masks(counts, height, width).view(np.uint8)


def _moved(masks: Masks, transforms: Any, new_size: tuple[int, int]) -> Masks:
    moved = [np.asarray(transforms.apply_segmentation(mask), np.uint8) for mask in masks]
    return np.stack(moved) if moved else np.zeros((0, *new_size), np.uint8)
