"""SOLOv2's two heads. The instance head says what is centred in each grid cell, and gives the kernel that will cut its
mask out; the mask head makes one map of mask features at stride 4, out of the pyramid's p2..p5.

B images, C input channels, K classes, D kernel channels, G cells along a side of a level's grid.
"""

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from sapnet_pipe.stages.segment.config import HeadNorm

MASK_FEATURES = ("p2", "p3", "p4", "p5")
MASK_STRIDE = 4


def conv_block(inputs: int, outputs: int, norm: HeadNorm, groups: int) -> list[nn.Module]:
    """3x3 convolution, GroupNorm, ReLU; without the norm the convolution has a bias."""
    conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=norm == "none")
    middle = [nn.GroupNorm(groups, outputs)] if norm == "gn" else []
    return [conv, *middle, nn.ReLU(inplace=True)]


def init_convs(module: nn.Module) -> None:
    """Weights from N(0, 0.01), biases 0, for every convolution inside."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.normal_(layer.weight, std=0.01)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def coordinate_maps(height: int, width: int, like: Tensor) -> Tensor:
    """(2, height, width) with `like`'s dtype and device: x from -1 (left) to 1 (right), then y from -1 (top) to 1."""
    x = torch.linspace(-1, 1, width, dtype=like.dtype, device=like.device)
    y = torch.linspace(-1, 1, height, dtype=like.dtype, device=like.device)
    return torch.stack([x.expand(height, width), y[:, None].expand(height, width)])


def append_coords(features: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, C + 2, H, W): the coordinates x, y become the last two channels."""
    batch, _, height, width = features.shape
    return torch.cat([features, coordinate_maps(height, width, features).expand(batch, -1, -1, -1)], dim=1)


class InstanceHead(nn.Module):
    """Two towers of 3x3 convolutions over every level, with the same weights on all of them.

    Args:
        in_channels, channels: Of the pyramid and of the towers.
        num_convs: Convolutions in a tower before the prediction.
        num_kernels: D, equal to the channels of the mask features.
        num_grids: Cells along a side, per level.
        norm, norm_groups: Normalisation of the towers.
        prior_prob: Score that every cell starts with, so that the many background cells do not swamp the loss.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        channels: int,
        num_convs: int,
        num_classes: int,
        num_kernels: int,
        num_grids: Sequence[int],
        norm: HeadNorm = "gn",
        norm_groups: int = 32,
        prior_prob: float = 0.01,
    ) -> None:
        super().__init__()
        self.num_grids = tuple(num_grids)
        self.cate_tower = _tower(in_channels, channels, num_convs, norm, norm_groups)
        self.kernel_tower = _tower(in_channels + 2, channels, num_convs, norm, norm_groups)
        self.cate_pred = nn.Conv2d(channels, num_classes, 3, padding=1)
        self.kernel_pred = nn.Conv2d(channels, num_kernels, 3, padding=1)
        init_convs(self)
        nn.init.constant_(self.cate_pred.bias, -math.log((1 - prior_prob) / prior_prob))  # type: ignore[arg-type]

    def forward(self, levels: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Maps (B, C, h, w) per level -> category logits (B, K, G, G) and kernels (B, D, G, G) per level."""
        cate_logits, kernels = [], []
        for feature, grid in zip(levels, self.num_grids, strict=True):
            cells = _to_grid(feature, grid)
            cate_logits.append(self.cate_pred(self.cate_tower(cells)))
            kernels.append(self.kernel_pred(self.kernel_tower(_with_cell_coords(cells, feature))))
        return cate_logits, kernels


def _tower(inputs: int, channels: int, num_convs: int, norm: HeadNorm, groups: int) -> nn.Sequential:
    widths = [inputs, *[channels] * num_convs]
    return nn.Sequential(*[m for a, b in itertools.pairwise(widths) for m in conv_block(a, b, norm, groups)])


def _to_grid(maps: Tensor, grid: int) -> Tensor:
    return interpolate(maps, size=(grid, grid), mode="bilinear", align_corners=False)


def _with_cell_coords(cells: Tensor, feature: Tensor) -> Tensor:
    """Append x, y as they are at the feature's resolution and then resized: cell centres do not reach -1 and 1.

    Resizing works channel by channel, so the two can be resized alone and the features are resized once.
    """
    coords = _to_grid(coordinate_maps(feature.shape[-2], feature.shape[-1], cells)[None], cells.shape[-1])
    return torch.cat([cells, coords.expand(len(cells), -1, -1, -1)], dim=1)


class MaskHead(nn.Module):
    """Brings p2..p5 to stride 4, adds them up and projects them to the mask features.

    The pyramid must be exact (every map half the one before), which padding the images to multiples of 32 ensures.

    Args:
        in_channels, channels: Of the pyramid and inside this head.
        num_masks: Channels of the result, equal to those of the dynamic kernels.
        norm, norm_groups: Normalisation; the last layer has its GroupNorm even with ``none``.
    """

    def __init__(
        self, *, in_channels: int, channels: int, num_masks: int, norm: HeadNorm = "gn", norm_groups: int = 32
    ) -> None:
        super().__init__()
        last = len(MASK_FEATURES) - 1
        # The coarsest map alone carries the coordinates: they are what the kernels' own coordinates refer to.
        self.convs_all_levels = nn.ModuleList(
            _level(in_channels + (2 if index == last else 0), channels, index, norm, norm_groups)
            for index in range(len(MASK_FEATURES))
        )
        self.conv_pred = nn.Sequential(
            nn.Conv2d(channels, num_masks, 1, bias=norm == "none"),
            nn.GroupNorm(norm_groups, num_masks),
            nn.ReLU(inplace=True),
        )
        init_convs(self)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """p2..p5, each (B, C, H / 2**n, W / 2**n) -> mask features (B, D, H / 4, W / 4)."""
        *fine, coarsest = features
        inputs = [*fine, append_coords(coarsest)]
        maps = [level(x) for level, x in zip(self.convs_all_levels, inputs, strict=True)]
        return torch.as_tensor(self.conv_pred(sum(maps[1:], maps[0])))


def _level(inputs: int, channels: int, index: int, norm: HeadNorm, groups: int) -> nn.Sequential:
    """The layers of p2 (one convolution) or of p3, p4, p5: as many convolutions, each followed by a doubling."""
    level = nn.Sequential()
    for step in range(max(1, index)):
        block = conv_block(inputs if step == 0 else channels, channels, norm, groups)
        level.add_module(f"conv{step}", nn.Sequential(*block))
        if index:
            level.add_module(f"upsample{step}", nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False))
    return level
