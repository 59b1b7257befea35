"""Box arithmetic on NumPy arrays.

One box rule: XYXY, float32, original-image pixels, (0, 0) = top-left corner of the top-left pixel, right and bottom
exclusive. XYWH appears only where a COCO file is read or written.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float32]


def xywh_to_xyxy(box_xywh: ArrayLike) -> Floats:
    """(..., 4) x, y, width, height -> (..., 4) float32 XYXY."""
    box = np.asarray(box_xywh, dtype=np.float64)
    return np.concatenate([box[..., :2], box[..., :2] + box[..., 2:]], axis=-1).astype(np.float32)


def xyxy_to_xywh(box_xyxy: ArrayLike) -> Floats:
    """(..., 4) XYXY -> (..., 4) float32 x, y, width, height."""
    box = np.asarray(box_xyxy, dtype=np.float64)
    return np.concatenate([box[..., :2], box[..., 2:] - box[..., :2]], axis=-1).astype(np.float32)


def box_area(box_xyxy: ArrayLike) -> Floats:
    """(..., 4) XYXY -> (...) float32 area in square pixels; 0 where right <= left or bottom <= top."""
    box = np.asarray(box_xyxy, dtype=np.float32)
    size = np.maximum(box[..., 2:] - box[..., :2], 0)
    return np.asarray(size[..., 0] * size[..., 1])


def box_iou(a_xyxy: ArrayLike, b_xyxy: ArrayLike) -> Floats:
    """XYXY (..., 4) and (..., 4), broadcast -> (...) float32 intersection over union; 0 where both boxes are empty."""
    a, b = np.asarray(a_xyxy, dtype=np.float32), np.asarray(b_xyxy, dtype=np.float32)
    size = np.maximum(np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2]), 0)
    inter = size[..., 0] * size[..., 1]
    union = box_area(a) + box_area(b) - inter
    return np.asarray(np.divide(inter, union, out=np.zeros_like(inter), where=union > 0))


def mask_to_box(mask: NDArray[np.bool_]) -> Floats:
    """(H, W) bool -> (4,) float32 XYXY around its True pixels, right and bottom exclusive; zeros if there is none."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return np.zeros(4, np.float32)
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float32)
