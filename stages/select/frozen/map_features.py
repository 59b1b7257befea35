"""Features of boxes from maps of features that were computed once.

The feature of a box is the mean of the map over each of its parts, read from a summed-area table, so any box has one.
Of the twenty scaled positives two go through the layers, and the others are interpolated; a sample of the negatives
stands for all of them.

I images, G cells along a side of a map, C channels, N bags, R boxes, n bins along a side of a box.
"""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from sapnet_pipe.stages.select.batches.batch import SelectBatch
from sapnet_pipe.stages.select.config import SelectConfig
from sapnet_pipe.stages.select.method.pnpg import NUM_GROWN
from sapnet_pipe.stages.select.network.roi_features import BoxFeatures
from sapnet_pipe.stages.select.network.roi_head import TwoLayers

_MIN_LENGTH = 1e-2  # cells; a box of no size has a feature too


class MapProvider:
    """Features of boxes by tables (I, G + 1, G + 1, C) of `summed_area`, which a batch holds in place of images."""

    def __init__(self, channels: int, config: SelectConfig) -> None:
        frozen = config.frozen
        self.backbone = nn.Identity()
        self.roi_head = BoxMeansHead(
            channels, config.head.channels, bins=frozen.bins, cells_per_pixel=frozen.grid / config.image.long_side
        )
        self._negatives = frozen.negatives

    def __call__(self, batch: SelectBatch, *, tta: bool) -> "MapFeatures":
        """Raises: ValueError for `tta`: a table cannot be mirrored."""
        if tta:
            raise ValueError("there are no mirrored images to see")
        return MapFeatures(self.backbone, self.roi_head, batch, self._negatives * len(batch.image_size))


class MapFeatures(BoxFeatures):
    """Features of boxes from tables; at most `max_negatives` of the negatives go through the layers."""

    def __init__(self, backbone: nn.Module, roi_head: nn.Module, batch: SelectBatch, max_negatives: int) -> None:
        super().__init__(backbone, roi_head, batch, tta=False)
        self._max_negatives = max_negatives

    def of_scaled(self, boxes: Tensor) -> list[Tensor]:
        """Those of the boxes that are 1 % and 15 % larger; the others are interpolated by the length of their sides."""
        ends = super().of_scaled(boxes[:, [0, NUM_GROWN - 1]])
        side = (boxes[..., 2:] - boxes[..., :2]).sum(dim=-1)  # (N, 20)
        first, last = side[:, :1], side[:, NUM_GROWN - 1 : NUM_GROWN]
        fraction = ((side - first) / (last - first).clamp(min=1e-6)).clamp(-1, 1)[..., None]
        return [near.lerp(far, fraction) for near, far in ((end[:, :1], end[:, 1:]) for end in ends)]

    def _of_negative_boxes(self, boxes: Tensor, image_index: Tensor) -> tuple[Tensor, Tensor]:
        count, limit = len(boxes), self._max_negatives
        if count <= limit:
            return super()._of_negative_boxes(boxes, image_index)
        drawn = torch.randint(count, (limit,), device=boxes.device)
        place = torch.arange(count, device=boxes.device) % limit
        embedding, images = super()._of_negative_boxes(boxes[drawn], image_index[drawn])
        return embedding[place], images[place]


class BoxMeansHead(TwoLayers):
    """Means over n x n parts of boxes, then the two fully connected layers."""

    def __init__(self, in_channels: int, channels: int, *, bins: int, cells_per_pixel: float) -> None:
        super().__init__(in_channels * bins**2, channels)
        self.bins, self.cells_per_pixel = bins, cells_per_pixel

    def forward(self, table: Tensor, boxes: Tensor, image_index: Tensor) -> Tensor:
        """Tables (I, G + 1, G + 1, C), boxes (R, 4) in network pixels of the images (R,) to (R, channels)."""
        return self.embed(box_means(table, boxes * self.cells_per_pixel, image_index, self.bins))


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
    fraction = inside - left
    index = torch.stack([left, left + 1], dim=-1).long()  # (R, n + 1, 2)
    weight = torch.stack([1 - fraction, fraction], dim=-1)
    length = ((high - low) / bins).clamp(min=_MIN_LENGTH)[:, None, None]
    weights = torch.cat([-weight[:, :-1], weight[:, 1:]], dim=-1) / length
    return torch.cat([index[:, :-1], index[:, 1:]], dim=-1), weights
