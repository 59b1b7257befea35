"""SOLOv2's mask head: one map of mask features at stride 4, out of the pyramid's p2..p5."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from stages.segment.coords import append_coords
from stages.segment.instance_head import HeadNorm, conv_block, init_convs

MASK_FEATURES = ("p2", "p3", "p4", "p5")
MASK_STRIDE = 4


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
