"""SOLOv2's instance head: what is centred in each grid cell, and the kernel that will cut its mask out.

B images, C input channels, K classes, D kernel channels, G cells along a side of a level's grid.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from stages.segment.coords import coordinate_maps

HeadNorm = Literal["gn", "none"]


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
