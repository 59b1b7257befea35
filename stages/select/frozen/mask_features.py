"""The selector on SAM's features of the masks, which a store made with ``--features`` holds: no image is opened.

N bags, M masks per bag (padded), D values of a mask's feature.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sapnet_pipe.data.bag_store.masks import FEATURE_COLUMN
from sapnet_pipe.data.bag_store.store import BagStore
from sapnet_pipe.stages.select.batches.bag_images import padded_index
from sapnet_pipe.stages.select.batches.select_batch import SelectBatch
from sapnet_pipe.stages.select.config import SelectConfig
from sapnet_pipe.stages.select.method.boxes import box_area, box_iou
from sapnet_pipe.stages.select.network.model import Selector
from sapnet_pipe.stages.select.network.roi_features import RoiFeatures
from sapnet_pipe.stages.training.image_batch import ImageTransform

_NEAR = 0.05  # how much 1 - IoU hardly matters


@dataclass(frozen=True)
class MaskFeatures:
    """Features of every mask; ``look`` of the batches.

    Attributes:
        values: (T, D) float16. offsets: (N + 1,) int64, the bags' bounds in them.
    """

    values: NDArray[np.float16]
    offsets: NDArray[np.int64]

    @classmethod
    def read(cls, store: BagStore) -> "MaskFeatures | None":
        """The store's features, or None if it was made without."""
        if not store.has_features:
            return None
        column = store.read_column(FEATURE_COLUMN)
        return None if column.offsets is None else cls(column.values, column.offsets)

    def statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation (D,) over all masks."""
        values = torch.from_numpy(self.values).float()
        return values.mean(dim=0), values.std(dim=0).clamp(min=1e-4)

    def __call__(
        self,
        chosen: Sequence[int],
        transforms: Sequence[ImageTransform],
        every: Sequence[ImageTransform],
        rows: Sequence[NDArray[np.int64]],
    ) -> Tensor:
        """Features (N, M, D) of the bags in `rows`, in their order; padding repeats another mask."""
        index, _ = padded_index(self.offsets, np.concatenate(rows))
        return torch.from_numpy(self.values[index])


class Standardised(nn.Module):
    """In place of the backbone: features brought to mean 0 and deviation 1."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        self.out_channels = len(mean)

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        """Returns: ``masks`` (N, M, D) float32."""
        return {"masks": (features.float() - self.mean) / self.std}


class MaskLayers(nn.Module):
    """In place of the RoI head: the two fully connected layers."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.fc1, self.fc2 = nn.Linear(in_channels, channels), nn.Linear(channels, channels)
        for layer in (self.fc1, self.fc2):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, features: Tensor) -> Tensor:
        """(..., D) to (..., channels)."""
        return self.fc2(self.fc1(features).relu()).relu()


class MaskViews(RoiFeatures):
    """Embeddings of the masks, and of boxes interpolated between those of their bag."""

    _boxes: Tensor
    _filled: Tensor
    embedding: Tensor

    def of_bags(self, boxes: Tensor, image_index: Tensor, filled: Tensor | None = None) -> list[Tensor]:
        """One view (N, M, channels) of the masks themselves; without `filled` of other boxes (N, G, 4) of the bags."""
        if filled is None:
            near = 1 / (1 - box_iou(boxes[:, :, None], self._boxes[:, None]) + _NEAR).square() * self._filled[:, None]
            return [(near / near.sum(dim=2, keepdim=True)) @ self.embedding]
        bags, masks = boxes.shape[:2]
        known = self._head(self._pyramids[0]["masks"].flatten(0, 1)[filled])
        padded = known.new_zeros(bags * masks, known.shape[-1]).index_copy(0, filled, known)
        self.embedding = padded.unflatten(0, (bags, masks))
        self._boxes = boxes
        self._filled = torch.zeros(bags * masks, device=boxes.device).index_fill(0, filled, 1).view(bags, masks)
        return [self.embedding]


class MaskSelector(Selector):
    """The selector on features of masks (N, M, D) in place of images."""

    views = MaskViews

    def __init__(self, features: Standardised, num_classes: int, config: SelectConfig) -> None:
        super().__init__(
            features, num_classes, config, roi_head=MaskLayers(features.out_channels, config.head.channels)
        )

    def _negatives(
        self, features: RoiFeatures, batch: SelectBatch, boxes: Tensor, valid: Tensor, selected_box: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The masks of the bag that are smaller than the selected one and overlap it too little to be the object."""
        if not isinstance(features, MaskViews):
            raise TypeError("features of masks are needed")
        smaller = box_area(batch.boxes) < box_area(selected_box)[:, None]
        apart = box_iou(batch.boxes, selected_box[:, None]) < self.config.negatives.t_neg2
        large = box_area(selected_box) > self.config.negatives.part_min_side**2
        keep = batch.valid & smaller & apart & large[:, None]
        return features.embedding[keep], batch.image_index[:, None].expand_as(keep)[keep]
