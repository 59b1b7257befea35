"""The selector on frozen features: the same scores, rules and losses, with fewer boxes through the layers."""

import torch
from torch import Tensor

from sapnet_pipe.stages.select.batches.select_batch import SelectBatch
from sapnet_pipe.stages.select.config import SelectConfig
from sapnet_pipe.stages.select.frozen.grid import BoxLayers, Tables
from sapnet_pipe.stages.select.method.pnpg import NUM_GROWN, propose_negatives
from sapnet_pipe.stages.select.network.model import Selector
from sapnet_pipe.stages.select.network.roi_features import RoiFeatures


class MapViews(RoiFeatures):
    """Features of boxes from tables; the scaled positives are interpolated."""

    def of_bags(self, boxes: Tensor, image_index: Tensor, filled: Tensor | None = None) -> list[Tensor]:
        """As for images; without `filled` the boxes (N, 20, 4) are scaled ones about one centre."""
        if filled is not None:
            return super().of_bags(boxes, image_index, filled)
        ends = super().of_bags(boxes[:, [0, NUM_GROWN - 1]], image_index)
        side = (boxes[..., 2:] - boxes[..., :2]).sum(dim=-1)  # (N, 20)
        first, last = side[:, :1], side[:, NUM_GROWN - 1 : NUM_GROWN]
        share = ((side - first) / (last - first).clamp(min=1e-6)).clamp(-1, 1)[..., None]
        return [near.lerp(far, share) for near, far in ((end[:, :1], end[:, 1:]) for end in ends)]


class MapSelector(Selector):
    """The selector on summed-area tables of maps in place of images."""

    views = MapViews

    def __init__(self, tables: Tables, num_classes: int, config: SelectConfig) -> None:
        frozen = config.frozen
        layers = BoxLayers(
            tables.out_channels,
            config.head.channels,
            bins=frozen.bins,
            grid=frozen.grid,
            long_side=config.image.long_side,
        )
        super().__init__(tables, num_classes, config, roi_head=layers)

    def _negatives(
        self, features: RoiFeatures, batch: SelectBatch, boxes: Tensor, valid: Tensor, selected_box: Tensor
    ) -> tuple[Tensor, Tensor]:
        """A sample of the negatives goes through the layers, and stands for all of them in the loss."""
        sampled, image_index, keep = propose_negatives(batch, boxes, valid, selected_box, self.config.negatives)
        sampled, image_index = sampled[keep], image_index[keep]
        count, limit = len(sampled), self.config.frozen.negatives * len(batch.image_size)
        if count <= limit:
            return features.of_boxes(sampled, image_index)[0], image_index
        drawn = torch.randint(count, (limit,), device=sampled.device)
        place = torch.arange(count, device=sampled.device) % limit
        return features.of_boxes(sampled[drawn], image_index[drawn])[0][place], image_index[drawn][place]
