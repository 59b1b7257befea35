"""Features of boxes from SAM's features of the masks, which a store made with ``--features`` holds: no image is opened.

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
from sapnet_pipe.stages.select.batches.batch import SelectBatch
from sapnet_pipe.stages.select.config import HeadConfig, NegativesConfig
from sapnet_pipe.stages.select.method.boxes import box_area, box_iou
from sapnet_pipe.stages.select.network.roi_head import TwoLayers
from sapnet_pipe.stages.training.image_batch import ImageTransform

_NEAR = 0.05  # how much 1 - IoU hardly matters


@dataclass(frozen=True)
class MaskFeatureReader:
    """Features of every mask of a store; the ``InputReader`` of batches that need no image.

    Attributes:
        values: (T, D) float16. offsets: (N + 1,) int64, the bags' bounds in them.
    """

    values: NDArray[np.float16]
    offsets: NDArray[np.int64]

    @classmethod
    def read(cls, store: BagStore) -> "MaskFeatureReader | None":
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
        whole: Sequence[ImageTransform],
        rows: Sequence[NDArray[np.int64]],
    ) -> Tensor:
        """Features (N, M, D) of the bags in `rows`, in their order; padding repeats another mask."""
        index, _ = padded_index(self.offsets, np.concatenate(rows))
        return torch.from_numpy(self.values[index])


class MaskProvider:
    """Features of masks (N, M, D), which a batch holds in place of images, brought to mean 0 and deviation 1."""

    def __init__(self, mean: Tensor, std: Tensor, config: HeadConfig) -> None:
        self.backbone = Standardised(mean, std)
        self.roi_head = MaskHead(len(mean), config.channels)

    def __call__(self, batch: SelectBatch, *, tta: bool) -> "MaskFeatures":
        """Raises: ValueError for `tta`: a mask's feature cannot be mirrored."""
        if tta:
            raise ValueError("there are no mirrored images to see")
        return MaskFeatures(self.backbone, self.roi_head, batch)


class Standardised(nn.Module):
    """Features brought to mean 0 and deviation 1, both (D,)."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def forward(self, features: Tensor) -> Tensor:
        """(N, M, D) to (N, M, D) float32."""
        return (features.float() - self.mean) / self.std


class MaskHead(TwoLayers):
    """The two fully connected layers."""

    def forward(self, features: Tensor) -> Tensor:
        """(..., D) to (..., channels)."""
        return self.embed(features)


class MaskFeatures:
    """Features of the masks of a batch, and of boxes interpolated between those of their bag."""

    def __init__(self, backbone: nn.Module, roi_head: nn.Module, batch: SelectBatch) -> None:
        self._batch = batch
        bags, masks = batch.boxes.shape[:2]
        known = roi_head(backbone(batch.inputs).flatten(0, 1)[batch.filled])
        padded = known.new_zeros(bags * masks, known.shape[-1]).index_copy(0, batch.filled, known)
        self._embedding = padded.unflatten(0, (bags, masks))

    def of_bags(self) -> list[Tensor]:
        """(N, M, channels) of the masks themselves; zeros on padding."""
        return [self._embedding]

    def of_scaled(self, boxes: Tensor) -> list[Tensor]:
        """(N, G, channels) of boxes (N, G, 4), the nearer to a mask the more their boxes overlap."""
        iou = box_iou(boxes[:, :, None], self._batch.boxes[:, None])  # (N, G, M)
        near = 1 / (1 - iou + _NEAR).square() * self._batch.valid[:, None]
        return [(near / near.sum(dim=2, keepdim=True)) @ self._embedding]

    def of_negatives(
        self, positives: Tensor, valid: Tensor, selected: Tensor, config: NegativesConfig
    ) -> tuple[Tensor, Tensor]:
        """The masks of the bag that are smaller than the selected one and overlap it too little to be the object."""
        boxes = self._batch.boxes
        smaller = box_area(boxes) < box_area(selected)[:, None]
        apart = box_iou(boxes, selected[:, None]) < config.t_neg2
        large = box_area(selected) > config.part_min_side**2
        keep = self._batch.valid & smaller & apart & large[:, None]
        return self._embedding[keep], self._batch.image_index[:, None].expand_as(keep)[keep]
