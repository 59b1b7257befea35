"""Features of boxes: RoIAlign on the pyramid level that fits each box, then two fully connected layers.

I images, R boxes, n bins per side, s samples per bin and side.
"""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sapnet_pipe.stages.select.method.boxes import box_area
from sapnet_pipe.stages.training.backbone_config import STRIDES

ROI_LEVELS = ("p2", "p3", "p4", "p5")
MAX_ROIS_AT_ONCE = 4096


class TwoLayers(nn.Module):
    """The two fully connected layers at the end of every kind of RoI head."""

    def __init__(self, in_features: int, channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(in_features, channels)
        self.fc2 = nn.Linear(channels, channels)
        for layer in (self.fc1, self.fc2):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def embed(self, pooled: Tensor) -> Tensor:
        """(..., in_features) to (..., channels)."""
        return self.fc2(self.fc1(pooled).relu()).relu()


class RoiHead(TwoLayers):
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
        super().__init__(in_channels * roi_size**2, channels)
        self.roi_size, self.sampling_ratio, self.canonical_size = roi_size, sampling_ratio, canonical_size

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
        return self.embed(pooled)


def roi_level(boxes: Tensor, canonical_size: float) -> Tensor:
    """Index (R,) into p2..p5 of each box (R, 4): one level up with every doubling of its side."""
    side = box_area(boxes).sqrt()
    return (2 + torch.log2(side / canonical_size + 1e-6)).floor().clamp(0, len(ROI_LEVELS) - 1).long()


def pyramid_roi_align(
    levels: Sequence[Tensor],
    strides: Sequence[int],
    boxes: Tensor,
    image_index: Tensor,
    level_index: Tensor,
    *,
    bins: int = 7,
    samples: int = 2,
) -> Tensor:
    """RoIAlign over all pyramid levels at once; equals torchvision's `roi_align(aligned=True)` on each box's level.

    Every bin is a weighted sum of pixels, so the whole operation is one `embedding_bag` over the pixels of all levels.
    On a CPU that takes a third of the time of torchvision's kernel, forward and backward, and has no loop over levels.

    Args:
        levels: Feature maps (I, C, H / stride, W / stride).
        boxes: (R, 4) float32 in pixels of the network's input. image_index, level_index: (R,) int64.
    Returns: (R, bins * bins * C) float32, bins row by row.
    """
    sizes = boxes.new_tensor([level.shape[-2:] for level in levels], dtype=torch.long)
    pixels = sizes.prod(dim=1)
    first = (pixels * len(levels[0])).cumsum(0) - pixels * len(levels[0])
    height, width = sizes[level_index].unbind(dim=1)
    scaled = boxes / boxes.new_tensor(strides)[level_index][:, None] - 0.5
    columns, column_weights = _axis(scaled[:, 0], scaled[:, 2], width, bins, samples)
    rows, row_weights = _axis(scaled[:, 1], scaled[:, 3], height, bins, samples)
    start = first[level_index] + image_index * height * width
    index = (start[:, None, None] + rows * width[:, None, None])[:, :, None, :, None] + columns[:, None, :, None, :]
    weight = row_weights[:, :, None, :, None] * column_weights[:, None, :, None, :]  # (R, n, n, 2s, 2s)
    table = torch.cat([level.permute(0, 2, 3, 1).flatten(0, 2) for level in levels]).float()
    per_bin = (2 * samples) ** 2
    pooled = F.embedding_bag(
        index.reshape(-1, per_bin), table, mode="sum", per_sample_weights=weight.reshape(-1, per_bin)
    )
    return pooled.reshape(len(boxes), bins * bins * table.shape[1])


def _axis(low: Tensor, high: Tensor, size: Tensor, bins: int, samples: int) -> tuple[Tensor, Tensor]:
    """The pixels that each bin reads along one axis, and their weights.

    Args:
        low, high: (R,) float32, the box's sides in pixel centres of its level. size: (R,) int64, the level's extent.
    Returns: index (R, n, 2s) int64 and weight (R, n, 2s) float32, summing to 1 per bin inside the map. As torchvision
        has it, a sample up to one pixel outside reads the border and one further out reads 0.
    """
    steps = (torch.arange(bins * samples, device=low.device) + 0.5) / (bins * samples)
    place = low[:, None] + (high - low)[:, None] * steps  # (R, n * s)
    last = size[:, None] - 1
    inside = (place >= -1) & (place <= size[:, None])
    place = place.clamp(min=0)
    left = torch.minimum(place.long(), last)
    right = torch.minimum(left + 1, last)
    share = (place - left).clamp(max=1) * (left < last)
    index = torch.stack([left, right], dim=-1)
    weight = torch.stack([1 - share, share], dim=-1) * (inside / samples)[..., None]
    return index.reshape(len(low), bins, 2 * samples), weight.reshape(len(low), bins, 2 * samples)
