"""Detectron2's Instances with the alternates of multi-mask supervision, and our targets out of them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from detectron2.structures import BitMasks, Instances
from numpy.typing import NDArray
from torch import Tensor

from sapnet_pipe.stages.segment.config import HeadConfig
from sapnet_pipe.stages.segment.solov2.targets import ImageTargets, Untrained, image_targets

Masks = NDArray[np.uint8]


class Alternates:
    """Per object the masks that train beside its own, as a field of Instances.

    Args:
        groups: N tensors (A_i, H, W) uint8, A_i may be 0.
    """

    def __init__(self, groups: Sequence[Tensor]) -> None:
        self.groups = list(groups)

    def __len__(self) -> int:
        return len(self.groups)

    def __getitem__(self, item: Any) -> "Alternates":
        """As for every field of Instances: a number, a slice, or a tensor of numbers or of bools."""
        chosen = torch.arange(len(self.groups))[item].reshape(-1)
        return Alternates([self.groups[index] for index in chosen.tolist()])

    def to(self, device: torch.device | str) -> "Alternates":
        """The masks on `device`."""
        return Alternates([group.to(device) for group in self.groups])


def make_instances(
    masks: Masks, classes: Sequence[int], alternates: Sequence[Masks] | None, ids: Sequence[int]
) -> Instances:
    """Instances of one image.

    Args:
        masks: (N, H, W) 0 or 1; an empty one stays, so that it can be counted.
        alternates: Per object (A_i, H, W), or None.
    Returns: gt_boxes (around the masks), gt_classes, gt_masks, gt_alternates if there are any, gt_ids.
    """
    result = Instances((int(masks.shape[1]), int(masks.shape[2])))
    result.gt_masks = BitMasks(torch.from_numpy(np.ascontiguousarray(masks)).bool())
    result.gt_boxes = result.gt_masks.get_bounding_boxes()
    result.gt_classes = torch.as_tensor(list(classes), dtype=torch.int64)
    result.gt_ids = torch.as_tensor(list(ids), dtype=torch.int64)
    if alternates is not None:
        result.gt_alternates = Alternates([torch.from_numpy(np.ascontiguousarray(group)) for group in alternates])
    return result


def targets_of_entry(
    entry: dict[str, Any], feat_size: tuple[int, int], head: HeadConfig, num_classes: int, lost: str = ""
) -> tuple[ImageTargets, Untrained]:
    """Our targets of one mapped image, for a batch whose mask features are (h, w); none without ``instances``."""
    if "instances" not in entry:
        height, width = entry["image"].shape[-2:]
        found = make_instances(np.zeros((0, height, width), np.uint8), [], None, [])
    else:
        found = entry["instances"]
    masks = found.gt_masks.tensor.cpu().numpy().view(np.uint8)
    groups = [group.cpu().numpy() for group in found.gt_alternates.groups] if found.has("gt_alternates") else None
    ids = found.gt_ids.tolist() if found.has("gt_ids") else list(range(len(masks)))
    empty = np.zeros((0, *masks.shape[1:]), np.uint8)
    return image_targets(
        masks,
        [empty] * len(masks) if groups is None else groups,
        found.gt_classes.tolist(),
        ids,
        feat_size=feat_size,
        head=head,
        num_classes=num_classes,
        box_xyxy=found.gt_boxes.tensor.cpu().numpy().astype(np.float32) if found.has("gt_boxes") else None,
        lost=lost or "gone in the resize",
    )
