"""Which cells of the grids are to predict which instance.

N instances, L levels, G cells along a side of a level, S = sum of G * G over the levels. A cell's number counts
row by row through the first level, then the second, and so on.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sapnet_pipe.stages.segment.solov2.mask_geometry import MaskGeometry

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


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
