"""Training targets of one image: cells, and the masks that their kernels are to draw."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sapnet_pipe.stages.segment.solov2.cell_assignment import assign_cells
from sapnet_pipe.stages.segment.solov2.mask_geometry import measure_masks, quarter_masks


class ImageTargets(NamedTuple):
    """Targets of an image with N instances, on S cells.

    Attributes:
        category: (S,) int64 class index per cell; the number of classes stands for background.
        cell, instance: (n,) int64, the positive pairs, see `CellAssignment`.
        masks: (M, h, w) uint8 at stride 4: the N pseudo masks, then all alternates.
        alternates: (N, A) int64, rows of `masks` that are an instance's MPS alternates; -1 fills up.
    """

    category: Tensor
    cell: Tensor
    instance: Tensor
    masks: Tensor
    alternates: Tensor


def build_targets(
    masks: NDArray[np.uint8],
    classes: NDArray[np.int64],
    alternates: Sequence[NDArray[np.uint8]] | None = None,
    *,
    box_xyxy: NDArray[np.float32] | None = None,
    feat_size: tuple[int, int],
    num_grids: Sequence[int],
    scale_ranges: Sequence[tuple[float, float]],
    sigma: float,
    num_classes: int,
) -> ImageTargets:
    """Targets of one image; centres and small masks are made once, not once per level.

    The alternates share the positive cells of their pseudo mask. Cells of their own would tell the category branch
    that a part or a group is centred elsewhere, that is, they would add objects; MPS (supplement, Eq. 11) only softens
    what the kernel of the object is to draw.

    Args:
        masks: (N, H, W) uint8, 0 or 1, at the size of the network's input without its padding.
        classes: (N,) class indices.
        alternates: Per instance (A_i, H, W), A_i may be 0; None: no instance has any.
        box_xyxy: (N, 4) boxes that decide on the levels; the masks' own where not given.
        feat_size: (h, w) of the mask features, a quarter of the padded input.
        num_grids, scale_ranges, sigma, num_classes: See `assign_cells`.
    """
    geometry = measure_masks(masks)
    cells = assign_cells(
        geometry.box_xyxy if box_xyxy is None else box_xyxy,
        classes,
        geometry,
        padded_size=(4 * feat_size[0], 4 * feat_size[1]),
        num_grids=num_grids,
        scale_ranges=scale_ranges,
        sigma=sigma,
        num_classes=num_classes,
    )
    small, rows = _small_masks(masks, alternates, feat_size)
    return ImageTargets(*map(torch.from_numpy, (cells.category, cells.cell, cells.instance, small, rows)))


def _small_masks(
    masks: NDArray[np.uint8], alternates: Sequence[NDArray[np.uint8]] | None, feat_size: tuple[int, int]
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """All masks at stride 4, the N pseudo masks first, and for each instance the rows of its alternates."""
    extra = [np.zeros((0, *masks.shape[1:]), np.uint8)] * len(masks) if alternates is None else alternates
    small = np.concatenate([quarter_masks(group, feat_size) for group in (masks, *extra)])
    return small, _alternate_rows([len(group) for group in extra])


def _alternate_rows(counts: Sequence[int]) -> NDArray[np.int64]:
    """Alternates per instance, (N,) -> (N, A) numbers of their rows behind the N pseudo masks, filled up with -1."""
    number = np.asarray(counts, np.int64)
    column = np.arange(number.max(initial=0))
    rows = len(number) + np.cumsum(number)[:, None] - number[:, None] + column
    return np.where(column < number[:, None], rows, -1)
