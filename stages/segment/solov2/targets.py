"""Training targets of one image: the cells that predict each instance, and the masks that their kernels are to draw.

N instances, L levels, G cells along a side of a level, S = sum of G * G over the levels. A cell's number counts row by
row through the first level, then the second, and so on.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sapnet_pipe.stages.segment.config import HeadConfig
from sapnet_pipe.stages.segment.solov2.mask_geometry import MaskGeometry, measure_masks, quarter_masks

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Masks = NDArray[np.uint8]
Untrained = list[tuple[int, str]]  # annotation id and reason of each object that no cell predicts


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


def image_targets(
    masks: Masks,
    alternates: Sequence[Masks],
    classes: Sequence[int],
    annotation_ids: Sequence[int],
    *,
    feat_size: tuple[int, int],
    head: HeadConfig,
    num_classes: int,
    box_xyxy: Floats | None = None,
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


def build_targets(
    masks: Masks,
    classes: Ints,
    alternates: Sequence[Masks] | None = None,
    *,
    box_xyxy: Floats | None = None,
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


@dataclass(frozen=True)
class CellAssignment:
    """Cells of one image.

    Attributes:
        category: (S,) int64 class index; the number of classes stands for background.
        cell, instance: (n,) int64, one entry per positive (cell, instance) pair, by level, instance, row, column. Where
            objects overlap a cell is listed once for each; its category is that of the last one.
    """

    category: Ints
    cell: Ints
    instance: Ints


def assign_cells(
    box_xyxy: Floats,
    classes: Ints,
    geometry: MaskGeometry,
    *,
    padded_size: tuple[int, int],
    num_grids: Sequence[int],
    scale_ranges: Sequence[tuple[float, float]],
    sigma: float,
    num_classes: int,
) -> CellAssignment:
    """Give every instance the cells around its centre of mass on the levels that fit its size.

    Args:
        box_xyxy: (N, 4) in pixels of the network's input.
        classes: (N,) class indices.
        geometry: Of the N masks; an instance with an empty mask gets no cell.
        padded_size: (H, W) of the padded network input.
        num_grids, scale_ranges: Per level G, and the range (both ends included) of sqrt(box area) that it takes. The
            ranges overlap: an instance may be on several levels, or on none.
        sigma: Share of the box around the centre whose cells are positive; at most 3 x 3 of them.
    """
    grid = np.asarray(num_grids, np.int64)[:, None]
    low, high = np.asarray(scale_ranges, np.float32).T[:, :, None]
    width, height = (box_xyxy[:, 2:] - box_xyxy[:, :2]).T
    size = np.sqrt(width * height)
    taken = (low <= size) & (size <= high) & (geometry.area > 0)  # (L, N)
    rows, row_ok = _cell_range(geometry.center_xy[:, 1], height, padded_size[0], grid, sigma)
    columns, column_ok = _cell_range(geometry.center_xy[:, 0], width, padded_size[1], grid, sigma)
    positive = taken[:, :, None, None] & row_ok[:, :, :, None] & column_ok[:, :, None, :]  # (L, N, 3, 3)
    first = np.concatenate([[0], np.cumsum(grid**2)])
    cells = first[:-1, None, None, None] + rows[:, :, :, None] * grid[:, :, None, None] + columns[:, :, None, :]
    cell, instance = cells[positive], np.broadcast_to(np.arange(len(size))[:, None, None], positive.shape)[positive]
    category = np.full(first[-1], num_classes, np.int64)
    category[cell] = classes[instance]  # NumPy keeps the last of several values, which is the rule for overlaps
    return CellAssignment(category, cell, instance)


def _cell_range(
    center: Floats, extent: Floats, padded: int, grid: Ints, sigma: float
) -> tuple[Ints, NDArray[np.bool_]]:
    """Rows (or columns) of the centre region: up to three from the first one, at most one before the centre's.

    Returns: (L, N, 3) indices and whether each belongs to the region.
    """
    half = np.float32(0.5) * extent * np.float32(sigma)
    middle = _cell_of(center, padded, grid)
    first = np.maximum(np.maximum(_cell_of(center - half, padded, grid), 0), middle - 1)
    last = np.minimum(np.minimum(_cell_of(center + half, padded, grid), grid - 1), middle + 1)
    index = first[:, :, None] + np.arange(3)
    return index, index <= last[:, :, None]


def _cell_of(position: Floats, padded: int, grid: Ints) -> Ints:
    """(N,) pixels -> (L, N) cells.

    Float32 floor division of the relative position by the relative cell size, as in SOLOv2's training: on an exact
    border it often gives one cell less than position * G // padded does, and masks of straight objects lie there.
    """
    cell_size = (1.0 / grid).astype(np.float32)
    return np.floor_divide(position / np.float32(padded), cell_size).astype(np.int64)


def _small_masks(masks: Masks, alternates: Sequence[Masks] | None, feat_size: tuple[int, int]) -> tuple[Masks, Ints]:
    """All masks at stride 4, the N pseudo masks first, and for each instance the rows of its alternates."""
    extra = [np.zeros((0, *masks.shape[1:]), np.uint8)] * len(masks) if alternates is None else alternates
    small = np.concatenate([quarter_masks(group, feat_size) for group in (masks, *extra)])
    return small, _alternate_rows([len(group) for group in extra])


def _alternate_rows(counts: Sequence[int]) -> Ints:
    """Alternates per instance, (N,) -> (N, A) numbers of their rows behind the N pseudo masks, filled up with -1."""
    number = np.asarray(counts, np.int64)
    column = np.arange(number.max(initial=0))
    rows = len(number) + np.cumsum(number)[:, None] - number[:, None] + column
    return np.where(column < number[:, None], rows, -1)
