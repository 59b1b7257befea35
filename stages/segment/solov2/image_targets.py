"""Targets of one image as it lies in the network's input, and which of its objects no cell is to predict."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sapnet_pipe.stages.segment.config import HeadConfig
from sapnet_pipe.stages.segment.solov2.targets import ImageTargets, build_targets

Untrained = list[tuple[int, str]]


def image_targets(
    masks: NDArray[np.uint8],
    alternates: Sequence[NDArray[np.uint8]],
    classes: Sequence[int],
    annotation_ids: Sequence[int],
    *,
    feat_size: tuple[int, int],
    head: HeadConfig,
    num_classes: int,
    box_xyxy: NDArray[np.float32] | None = None,
    lost: str = "gone in the resize",
) -> tuple[ImageTargets, Untrained]:
    """Build the targets.

    Args:
        masks: (N, H, W) uint8, 0 or 1, after every resize, flip and crop.
        alternates: Per object (A_i, H, W), moved in the same way.
        feat_size: (h, w) of the mask features of the padded batch.
        box_xyxy: (N, 4) boxes that decide on the levels; the masks' own where not given.
        lost: The reason given for an object without a pixel.
    Returns: the targets, and (annotation id, reason) of each object without a cell.
    """
    targets = build_targets(
        masks,
        np.asarray(classes, np.int64),
        alternates,
        box_xyxy=box_xyxy,
        feat_size=feat_size,
        num_grids=head.num_grids,
        scale_ranges=head.scale_ranges,
        sigma=head.sigma,
        num_classes=num_classes,
    )
    without = sorted(set(range(len(masks))) - set(targets.instance.tolist()))
    reasons = ["too large or small for every level" if masks[i].any() else lost for i in without]
    return targets, [(annotation_ids[i], reason) for i, reason in zip(without, reasons, strict=True)]
