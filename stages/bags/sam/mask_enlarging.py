"""From the decoder's small logits to masks of the original size, as `SamPredictor` makes them, and their features."""

from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from sapnet_pipe.data.bag_store.masks import MaskFigures
from sapnet_pipe.stages.bags.sam.decoded_masks import BinaryMasks, DecodedMasks, masks_in_memory, masks_on_device

STABILITY_OFFSET = 1.0
# On a CPU one mask at a time: several at once leave the caches and cost three times as much. On a GPU as many as
# make about this many pixels, so that memory follows the image.
_PIXELS_AT_ONCE = 1 << 26


class MaskEnlarger:
    """Makes masks out of one SAM's logits."""

    def __init__(self, sam: Any) -> None:
        """Args: sam: A `segment_anything.modeling.Sam`."""
        self._sam = sam

    def enlarge(
        self, low_res: Tensor, score: Tensor, token: NDArray[np.int8], sizes: tuple[tuple[int, int], tuple[int, int]]
    ) -> DecodedMasks:
        """Masks, boxes, areas and stability.

        Args:
            low_res: (M, h, w) logits.
            score: (M,) predicted IoU.
            token: (M,) int8, the mask token that made each.
            sizes: (height, width) of the image as SAM saw it, and of the original.
        """
        masks, stability = [], []
        for part in low_res.split(self._at_once(low_res.device.type, sizes[1])):
            logits = self._sam.postprocess_masks(part[None], *sizes)[0]
            binary, steady = self._in_memory(logits) if logits.device.type == "cpu" else self._on_device(logits)
            masks.append(binary)
            stability.append(steady)
        figures = MaskFigures(
            box_xyxy=np.concatenate([part.box_xyxy for part in masks]),
            area=np.concatenate([part.area for part in masks]),
            score=score.float().cpu().numpy(),
            stability=np.concatenate(stability),
            source=token,
        )
        return DecodedMasks([make_rle for part in masks for make_rle in part.make_rle], figures)

    def _at_once(self, device: str, original_size: tuple[int, int]) -> int:
        pixels = max(original_size[0] * original_size[1], self._sam.image_encoder.img_size**2)
        return 1 if device == "cpu" else max(1, _PIXELS_AT_ONCE // pixels)

    def _in_memory(self, logits: Tensor) -> tuple[BinaryMasks, NDArray[np.float32]]:
        values, threshold = logits.numpy(), self._sam.mask_threshold
        inner, outer = (
            np.array([np.count_nonzero(mask > threshold + offset) for mask in values], np.float32)
            for offset in (STABILITY_OFFSET, -STABILITY_OFFSET)
        )
        return masks_in_memory(values > threshold), np.divide(inner, np.maximum(outer, 1), dtype=np.float32)

    def _on_device(self, logits: Tensor) -> tuple[BinaryMasks, NDArray[np.float32]]:
        threshold = self._sam.mask_threshold
        inner = (logits > threshold + STABILITY_OFFSET).sum(dim=(1, 2))
        outer = (logits > threshold - STABILITY_OFFSET).sum(dim=(1, 2))
        return masks_on_device(logits > threshold), (inner / outer.clamp(min=1)).cpu().numpy()


def pooled_features(
    features: Tensor, logits: Tensor, threshold: float, input_size: tuple[int, int], side: int
) -> NDArray[np.float16]:
    """SAM's image features, averaged over each mask.

    Args:
        features: (1, C, h, w) of one image.
        logits: (M, n * h, n * w), before they are enlarged.
        threshold: Above it lies the mask.
        input_size: (height, width) of the image within SAM's square of `side` pixels; what lies beyond is padding.
    Returns: (M, C) float16; of the likeliest place where a mask is empty at this size.
    """
    logits = logits.masked_fill(~_within(logits, input_size, side), -torch.inf)
    inside = logits > threshold
    nothing = ~inside.flatten(1).any(dim=1)[:, None, None]
    inside |= nothing & (logits >= logits.amax(dim=(1, 2), keepdim=True))
    weights = F.adaptive_avg_pool2d(inside.float(), (features.shape[2], features.shape[3])).flatten(1)  # (M, h * w)
    pooled = weights @ features[0].flatten(1).T.float() / weights.sum(dim=1, keepdim=True)
    result: NDArray[np.float16] = pooled.half().cpu().numpy()
    return result


def innermost_points(
    logits: Tensor, threshold: float, input_size: tuple[int, int], original_size: tuple[int, int], side: int
) -> NDArray[np.float64]:
    """The place of each mask that is farthest from its border, the first of equals by row and column.

    Args: as `pooled_features`, and the image's (height, width) before it was scaled.
    Returns: (M, 2) float64 (x, y) in original pixels; NaN where a mask is empty at this size.
    """
    inside = ((logits > threshold) & _within(logits, input_size, side)).cpu().numpy()
    points = np.full((len(inside), 2), np.nan)
    for row in np.flatnonzero(inside.any(axis=(1, 2))):
        depth = cv2.distanceTransform(np.pad(inside[row], 1).view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        y, x = np.unravel_index(depth[1:-1, 1:-1].argmax(), inside.shape[1:])
        points[row] = x + 0.5, y + 0.5
    scale = np.array(original_size[::-1]) / np.array(input_size[::-1]) * (side / logits.shape[2])
    return np.minimum(points * scale, np.array(original_size[::-1]) - 0.5)


def _within(logits: Tensor, input_size: tuple[int, int], side: int) -> Tensor:
    """(h, w) bool: where the small masks show the image, not the padding to SAM's square."""
    height, width = logits.shape[1:]
    rows = torch.arange(height, device=logits.device)[:, None] * side < input_size[0] * height
    return rows & (torch.arange(width, device=logits.device) * side < input_size[1] * width)
