"""Features of any box by a summed-area table of a map of features.

I images, G cells along a side of a map, C channels, R boxes, n bins along a side of a box.
"""

from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

_MIN_LENGTH = 1e-2  # cells; a box of no size has a feature too


class Tables(nn.Module):
    """In place of the backbone: tables (I, G + 1, G + 1, C) of `summed_area` are all that there is to know."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.out_channels = channels

    def forward(self, tables: Tensor) -> dict[str, Tensor]:
        """Returns: them as ``table``."""
        return {"table": tables}


def summed_area(maps: NDArray[np.float16], mean: NDArray[np.float32], std: NDArray[np.float32]) -> NDArray[np.float32]:
    """The sums over all cells above and to the left of each corner, of features brought to mean 0 and deviation 1.

    Args:
        maps: (G, G, C). mean, std: (C,).
    Returns: (G + 1, G + 1, C).
    """
    table = np.zeros((maps.shape[0] + 1, maps.shape[1] + 1, maps.shape[2]), np.float32)
    table[1:, 1:] = (maps - mean) / std
    for row in range(2, len(table)):  # whole rows at once: several times faster than cumsum, which goes cell by cell
        table[row] += table[row - 1]
    for column in range(2, table.shape[1]):
        table[:, column] += table[:, column - 1]
    return table


class BoxLayers(nn.Module):
    """In place of the RoI head: means over parts of boxes, then the two fully connected layers.

    Args:
        long_side: Of the network's input, in pixels: the side of a map.
    """

    def __init__(self, in_channels: int, channels: int, *, bins: int, grid: int, long_side: int) -> None:
        super().__init__()
        self.bins, self.cells_per_pixel, self.channels = bins, grid / long_side, channels
        self.fc1 = nn.Linear(in_channels * bins**2, channels)
        self.fc2 = nn.Linear(channels, channels)
        for layer in (self.fc1, self.fc2):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, features: Mapping[str, Tensor], boxes: Tensor, image_index: Tensor) -> Tensor:
        """Boxes (R, 4) in network pixels of the images (R,) to (R, channels)."""
        pooled = box_means(features["table"], boxes * self.cells_per_pixel, image_index, self.bins)
        return self.fc2(self.fc1(pooled).relu()).relu()


def box_means(table: Tensor, boxes: Tensor, image_index: Tensor, bins: int) -> Tensor:
    """The mean of the map over each of the n x n parts of every box; outside of the map it is 0.

    A map is constant in each cell, so its sum up to any place is a linear interpolation of the table.

    Args:
        table: (I, G + 1, G + 1, C) of `summed_area`. boxes: (R, 4) in cells. image_index: (R,) int64.
    Returns: (R, n * n * C), parts row by row.
    """
    cells = table.shape[1] - 1
    columns, column_weights = _edges(boxes[:, 0], boxes[:, 2], cells, bins)
    rows, row_weights = _edges(boxes[:, 1], boxes[:, 3], cells, bins)
    first = (image_index * (cells + 1) ** 2)[:, None, None, None, None]
    index = first + (rows * (cells + 1))[:, :, None, :, None] + columns[:, None, :, None, :]  # (R, n, n, 4, 4)
    weight = row_weights[:, :, None, :, None] * column_weights[:, None, :, None, :]
    sums = F.embedding_bag(
        index.reshape(-1, 16), table.flatten(0, 2), mode="sum", per_sample_weights=weight.reshape(-1, 16)
    )
    return sums.reshape(len(boxes), bins * bins * table.shape[-1])


def _edges(low: Tensor, high: Tensor, cells: int, bins: int) -> tuple[Tensor, Tensor]:
    """Along one axis the places (R, n, 4) int64 in the table, and their weights, whose sum gives a part's mean."""
    steps = torch.arange(bins + 1, device=low.device) / bins
    inside = (low[:, None] + (high - low)[:, None] * steps).clamp(0, cells)
    left = inside.floor().clamp(max=cells - 1)
    share = inside - left
    index = torch.stack([left, left + 1], dim=-1).long()  # (R, n + 1, 2)
    weight = torch.stack([1 - share, share], dim=-1)
    length = ((high - low) / bins).clamp(min=_MIN_LENGTH)[:, None, None]
    weights = torch.cat([-weight[:, :-1], weight[:, 1:]], dim=-1) / length
    return torch.cat([index[:, :-1], index[:, 1:]], dim=-1), weights
