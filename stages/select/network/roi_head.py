"""Features of boxes: RoIAlign on the pyramid level that fits each box, then two fully connected layers."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from sapnet_pipe.stages.select.method.boxes import box_area
from sapnet_pipe.stages.select.network.roi_align import pyramid_roi_align
from sapnet_pipe.stages.training.backbone_config import STRIDES

ROI_LEVELS = ("p2", "p3", "p4", "p5")
MAX_ROIS_AT_ONCE = 4096


class RoiHead(nn.Module):
    """Boxes to feature vectors; every module of the selector shares it.

    Args:
        in_channels: Of the pyramid.
        channels: Of the two layers.
        canonical_size: Side of the boxes that level p4 serves; half of it is p3's, and so on.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        *,
        roi_size: int = 7,
        sampling_ratio: int = 2,
        canonical_size: float = 224,
    ) -> None:
        super().__init__()
        self.roi_size, self.sampling_ratio, self.canonical_size = roi_size, sampling_ratio, canonical_size
        self.fc1 = nn.Linear(in_channels * roi_size**2, channels)
        self.fc2 = nn.Linear(channels, channels)
        self.channels = channels
        for layer in (self.fc1, self.fc2):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, features: Mapping[str, Tensor], boxes: Tensor, image_index: Tensor) -> Tensor:
        """R boxes (R, 4) in network pixels, each of the image `image_index` (R,) int64, to (R, channels)."""
        if self.training or len(boxes) <= MAX_ROIS_AT_ONCE:
            return self._features(features, boxes, image_index)
        chunks = zip(boxes.split(MAX_ROIS_AT_ONCE), image_index.split(MAX_ROIS_AT_ONCE), strict=True)
        return torch.cat([self._features(features, *chunk) for chunk in chunks])

    def _features(self, features: Mapping[str, Tensor], boxes: Tensor, image_index: Tensor) -> Tensor:
        pooled = pyramid_roi_align(
            [features[name] for name in ROI_LEVELS],
            [STRIDES[name] for name in ROI_LEVELS],
            boxes,
            image_index,
            roi_level(boxes, self.canonical_size),
            bins=self.roi_size,
            samples=self.sampling_ratio,
        )
        return self.fc2(self.fc1(pooled).relu()).relu()


def roi_level(boxes: Tensor, canonical_size: float) -> Tensor:
    """Index (R,) into p2..p5 of each box (R, 4): one level up with every doubling of its side."""
    side = box_area(boxes).sqrt()
    return (2 + torch.log2(side / canonical_size + 1e-6)).floor().clamp(0, len(ROI_LEVELS) - 1).long()
