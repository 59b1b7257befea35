"""From a dataset dict to what the meta architecture takes: masks and their alternates go through every augmentation."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import transforms as T
from numpy.typing import NDArray

from sapnet_pipe.data.coco.masks import decode_masks
from sapnet_pipe.data.coco.segmentations import segmentation_to_counts
from sapnet_pipe.data.images import read_image
from sapnet_pipe.stages.segment.detectron2.augmentation import DrawnInput, build_augmentations
from sapnet_pipe.stages.segment.detectron2.instances import make_instances

Masks = NDArray[np.uint8]


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
            dataset_dict: In Detectron2's format; ``draw`` decides size and mirroring if it is there.
        Returns: the entries of the dict but the annotations, ``image`` (3, H, W) uint8, and while training
            ``instances`` as `make_instances` has them.
        Raises: UserError if the photograph cannot be read, or does not have the size that the dict says.
        """
        entry = {key: value for key, value in dataset_dict.items() if key not in ("annotations", "draw")}
        height, width = entry.get("height"), entry.get("width")
        pixels = read_image(Path(entry["file_name"]), height, width)
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
