"""From the feature pyramid to the levels of the instance head."""

from collections.abc import Mapping, Sequence

from torch import Tensor
from torch.nn.functional import interpolate


def split_levels(features: Mapping[str, Tensor], names: Sequence[str], strides: Sequence[int]) -> list[Tensor]:
    """Take the maps `names` and bring each to its stride.

    The standard SOLOv2 (p2..p6 at strides 8, 8, 16, 32, 32) halves p2 and enlarges p6 to the size of p5. A map is
    resized to the size of the pyramid map that has the wanted stride, since a doubled p6 may be a row too large.

    Args:
        features: "p2".."p6", each (B, C, H / 2**n, W / 2**n).
        names, strides: One of each per level.
    Returns: one (B, C, H / stride, W / stride) per level.
    """
    levels = []
    for name, stride in zip(names, strides, strict=True):
        feature, size = features[name], features[f"p{stride.bit_length() - 1}"].shape[-2:]
        same = feature.shape[-2:] == size
        levels.append(feature if same else interpolate(feature, size=size, mode="bilinear", align_corners=False))
    return levels
