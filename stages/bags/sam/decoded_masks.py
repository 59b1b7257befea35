"""What SAM's decoder gives: masks on their way to RLEs, and what is known of them already.

Boxes, areas and scores are needed at once (boxes are the next prompt); the RLEs are not, so they are made when they are
asked for, in another thread. Where the masks lie on a GPU, only the places where their colour changes come here.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sapnet_pipe.data.bag_store.masks import MaskFigures
from sapnet_pipe.data.coco.masks import counts_of_runs, encode_mask


@dataclass(frozen=True, slots=True)
class BinaryMasks:
    """M masks in original resolution.

    Args:
        make_rle: M functions, each makes the COCO compressed RLE of its mask.
        box_xyxy: (M, 4) float32 original pixels, right and bottom exclusive; zeros where a mask is empty.
        area: (M,) int32 pixels.
    """

    make_rle: Sequence[Callable[[], bytes]]
    box_xyxy: NDArray[np.float32]
    area: NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class DecodedMasks:
    """M masks that one or more prompts gave.

    Args:
        make_rle: As in `BinaryMasks`.
        figures: What is known of the masks; an empty one has a box of zeros, and `source` is the mask token alone.
        innermost_xy: (M, 2) original pixels, the place farthest from the mask's border, NaN where a mask is (nearly)
            empty; None if it was not asked for.
    """

    make_rle: Sequence[Callable[[], bytes]]
    figures: MaskFigures
    innermost_xy: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.make_rle)

    def rows(self, start: int, stop: int) -> "DecodedMasks":
        """The masks `start` to `stop` - 1."""
        part = slice(start, stop)
        innermost_xy = None if self.innermost_xy is None else self.innermost_xy[part]
        return DecodedMasks(self.make_rle[part], self.figures.take(part), innermost_xy)


def masks_in_memory(masks: NDArray[np.bool_]) -> BinaryMasks:
    """(M, H, W) masks in this machine's memory."""
    boxes = np.array([_box(mask) for mask in masks], np.float32).reshape(-1, 4)
    area = np.array([np.count_nonzero(mask) for mask in masks], np.int32)
    return BinaryMasks([partial(encode_mask, mask) for mask in masks], boxes, area)


def masks_on_device(masks: Tensor) -> BinaryMasks:
    """(M, H, W) bool masks on a GPU; only boxes, areas and changes of colour are copied from it."""
    height, width = masks.shape[1:]
    places = colour_changes(masks)
    boxes, area = device_boxes(masks).cpu().numpy(), masks.sum(dim=(1, 2), dtype=torch.int32).cpu().numpy()
    return BinaryMasks([partial(rle_of_changes, part, height, width) for part in places], boxes, area)


def colour_changes(masks: Tensor) -> list[NDArray[np.int32]]:
    """Where each mask, read column by column, differs from the pixel before (the first pixel: from False).

    Args:
        masks: (M, H, W) bool on any device.
    Returns: M arrays of ascending places.
    """
    columns = masks.transpose(1, 2).flatten(1)
    changes = columns != torch.nn.functional.pad(columns[:, :-1], (1, 0))
    places, sizes = changes.nonzero()[:, 1].to(torch.int32).cpu().numpy(), changes.sum(dim=1).cpu().numpy()
    return np.split(places, np.cumsum(sizes)[:-1])


def rle_of_changes(places: NDArray[np.int32], height: int, width: int) -> bytes:
    """The COCO compressed RLE of a mask of `colour_changes`."""
    runs = np.diff(places, prepend=0, append=height * width)
    return counts_of_runs(runs.tolist(), height, width)


def device_boxes(masks: Tensor) -> Tensor:
    """(M, H, W) bool -> (M, 4) float32 XYXY, right and bottom exclusive; zeros where a mask is empty."""
    sides = []
    for inside in (masks.any(dim=1), masks.any(dim=2)):  # by column, then by row
        ends = torch.arange(1, inside.shape[1] + 1, device=masks.device) * inside
        sides.append((inside.to(torch.uint8).argmax(dim=1), ends.amax(dim=1)))
    (x1, x2), (y1, y2) = sides
    return torch.stack([x1, y1, x2, y2], dim=1).float()


def _box(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    x, y, width, height = cv2.boundingRect(mask.view(np.uint8))
    return x, y, x + width, y + height
