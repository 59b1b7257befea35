"""Where the features of boxes come from: one interface, so that the selector's forward pass does not know the source.

Here is the provider that trains: the backbone on photographs, RoIAlign and two layers on its pyramid. Those of
`stages.select.frozen` read what was computed once.

I images, N bags, M masks per bag and G further boxes per bag (padded), R boxes. With test-time augmentation (TTA) a
batch is seen twice, as it is and mirrored; so features come as a list, with one tensor for each time.
"""

from typing import Protocol

import torch
from torch import Tensor, nn

from sapnet_pipe.stages.select.batches.batch import SelectBatch
from sapnet_pipe.stages.select.config import HeadConfig, NegativesConfig
from sapnet_pipe.stages.select.method.pnpg import propose_negatives
from sapnet_pipe.stages.select.network.roi_head import RoiHead
from sapnet_pipe.stages.training.backbone import ResNetFpn


class RoiFeatures(Protocol):
    """The features of boxes in one batch; boxes in network pixels."""

    def of_bags(self) -> list[Tensor]:
        """(N, M, channels) of the masks of the bags; zeros on padding, which is never computed."""

    def of_scaled(self, boxes: Tensor) -> list[Tensor]:
        """(N, 20, channels) of the boxes (N, 20, 4) that PNPG scales about the mined box of each bag."""

    def of_negatives(
        self, positives: Tensor, valid: Tensor, selected: Tensor, config: NegativesConfig
    ) -> tuple[Tensor, Tensor]:
        """Features (R, channels) of negative proposals, and their images (R,) int64; R depends on the values.

        Args:
            positives, valid: (N, G, 4) and (N, G), the bags and the scaled boxes. selected: (N, 4), PSM's choice.
        """


class FeatureProvider(Protocol):
    """Makes the `RoiFeatures` of a batch with two networks, which the selector registers, trains and saves."""

    @property
    def backbone(self) -> nn.Module:
        """From ``batch.inputs`` to whatever the head reads."""

    @property
    def roi_head(self) -> nn.Module:
        """From there to the features of boxes."""

    def __call__(self, batch: SelectBatch, *, tta: bool) -> RoiFeatures:
        """Look at a batch.

        Args:
            tta: Also mirrored.
        """


class PyramidProvider:
    """Features by a network that trains with the selector: a backbone with its pyramid, and a RoI head on that."""

    def __init__(self, backbone: ResNetFpn, config: HeadConfig) -> None:
        self.backbone = backbone
        self.roi_head = RoiHead(
            backbone.out_channels,
            config.channels,
            roi_size=config.roi_size,
            sampling_ratio=config.sampling_ratio,
            canonical_size=config.canonical_size,
        )

    def __call__(self, batch: SelectBatch, *, tta: bool) -> "BoxFeatures":
        """Run the backbone."""
        return BoxFeatures(self.backbone, self.roi_head, batch, tta=tta)


class BoxFeatures:
    """Features of any boxes in a batch, by a head that reads them off what a backbone makes of the inputs.

    Args:
        tta: Mirrored inputs have their padding on the left, and the boxes move with it.
    """

    def __init__(self, backbone: nn.Module, roi_head: nn.Module, batch: SelectBatch, *, tta: bool) -> None:
        self.batch, self._roi_head = batch, roi_head
        self._maps = [backbone(batch.inputs)] + ([backbone(batch.inputs.flip(-1))] if tta else [])

    def of_bags(self) -> list[Tensor]:
        """See `RoiFeatures`."""
        bags, masks = self.batch.boxes.shape[:2]
        filled = self.batch.filled
        images = self.batch.image_index.repeat_interleave(masks)
        result = []
        for found in self._of_boxes(self.batch.boxes.flatten(0, 1)[filled], images[filled]):
            padded = found.new_zeros(bags * masks, found.shape[-1])
            result.append(padded.index_copy(0, filled, found).unflatten(0, (bags, masks)))
        return result

    def of_scaled(self, boxes: Tensor) -> list[Tensor]:
        """See `RoiFeatures`."""
        images = self.batch.image_index.repeat_interleave(boxes.shape[1])
        return [found.unflatten(0, boxes.shape[:2]) for found in self._of_boxes(boxes.flatten(0, 1), images)]

    def of_negatives(
        self, positives: Tensor, valid: Tensor, selected: Tensor, config: NegativesConfig
    ) -> tuple[Tensor, Tensor]:
        """See `RoiFeatures`; not mirrored."""
        boxes, image_index, keep = propose_negatives(self.batch, positives, valid, selected, config)
        # The one place where the host waits for values: features of what was dropped would cost more.
        return self._of_negative_boxes(boxes[keep], image_index[keep])

    def _of_negative_boxes(self, boxes: Tensor, image_index: Tensor) -> tuple[Tensor, Tensor]:
        return self._of_boxes(boxes, image_index)[0], image_index

    def _of_boxes(self, boxes: Tensor, image_index: Tensor) -> list[Tensor]:
        """(R, channels) for boxes (R, 4) of images (R,)."""
        seen = [boxes, _mirrored(boxes, self.batch.inputs.shape[-1])][: len(self._maps)]
        return [self._roi_head(maps, there, image_index) for maps, there in zip(self._maps, seen, strict=True)]


def tta_mean(seen: list[Tensor]) -> Tensor:
    """The mean over the times that a batch was seen."""
    return seen[0] if len(seen) == 1 else torch.stack(seen).mean(dim=0)


def _mirrored(boxes: Tensor, width: int) -> Tensor:
    return torch.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], dim=1)
