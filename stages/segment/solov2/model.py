"""SOLOv2 (arXiv 2003.10152): backbone features in, predictions out."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn.functional import interpolate

from sapnet_pipe.stages.segment.solov2.heads import MASK_FEATURES, InstanceHead, MaskHead


class Predictions(NamedTuple):
    """Raw outputs for B images.

    Attributes:
        cate_logits: Per level (B, K classes, G, G), before the sigmoid.
        kernels: Per level (B, D, G, G): the 1x1 kernel of each cell.
        mask_features: (B, D, H / 4, W / 4).
    """

    cate_logits: list[Tensor]
    kernels: list[Tensor]
    mask_features: Tensor


class SOLOv2(nn.Module):
    """A backbone with the two heads; losses and decoding are functions beside it.

    Args:
        backbone: Images (B, 3, H, W), H and W multiples of 32 -> {"p2": (B, C, H / 4, W / 4), ... "p6"}.
        instance_features, instance_strides: Pyramid map and stride of each level of the instance head.
    """

    def __init__(
        self,
        backbone: nn.Module,
        ins_head: InstanceHead,
        mask_head: MaskHead,
        *,
        instance_features: Sequence[str],
        instance_strides: Sequence[int],
    ) -> None:
        super().__init__()
        self.backbone, self.ins_head, self.mask_head = backbone, ins_head, mask_head
        self.instance_features, self.instance_strides = tuple(instance_features), tuple(instance_strides)

    def forward(self, images: Tensor) -> Predictions:
        """Normalised images (B, 3, H, W) -> Predictions."""
        features = self.backbone(images)
        levels = split_levels(features, self.instance_features, self.instance_strides)
        cate_logits, kernels = self.ins_head(levels)
        mask_features = self.mask_head([features[name] for name in MASK_FEATURES])
        return Predictions(cate_logits, kernels, mask_features)


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
