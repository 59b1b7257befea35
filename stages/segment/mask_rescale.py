"""Masks at a quarter of their size, pixel for pixel as SOLOv2's training targets are made."""

import cv2
import numpy as np
from numpy.typing import NDArray


def quarter_masks(masks: NDArray[np.uint8], feat_size: tuple[int, int]) -> NDArray[np.uint8]:
    """Shrink 0/1 masks by 4 and lay them into the top-left corner of the padded map.

    OpenCV's bilinear interpolation on uint8 works in fixed point; where a side is no multiple of 4 it is not the same
    as rounding an exact interpolation, so it is called here rather than imitated.

    Args:
        masks: (N, H, W) uint8, 0 or 1.
        feat_size: (h, w) of the result, h >= H / 4 and w >= W / 4.
    Returns: (N, h, w) uint8, 0 or 1. A thin object may vanish.
    """
    count, height, width = masks.shape
    new_height, new_width = int(height / 4 + 0.5), int(width / 4 + 0.5)
    out = np.zeros((count, *feat_size), np.uint8)
    if new_height and new_width:
        for target, mask in zip(out, masks, strict=True):
            target[:new_height, :new_width] = cv2.resize(mask, (new_width, new_height), interpolation=cv2.INTER_LINEAR)
    return out
