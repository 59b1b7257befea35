"""SOLOv2 (arXiv 2003.10152): backbone features in, predictions out."""

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor, nn

from stages.segment.instance_head import InstanceHead
from stages.segment.level_split import split_levels
from stages.segment.mask_head import MASK_FEATURES, MaskHead


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
