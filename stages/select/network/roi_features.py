"""The pyramid of a batch, seen once or also mirrored, and the features of boxes in it."""

from collections.abc import Callable

import torch
from torch import Tensor, nn


class RoiFeatures:
    """Features of boxes for every view of a batch: as it is, and mirrored if asked for.

    Args:
        backbone: Images (I, 3, H, W) to a pyramid.
        images: With padding; mirrored, the padding lies on the left, and boxes move with it.
    """

    def __init__(
        self,
        backbone: Callable[[Tensor], dict[str, Tensor]],
        head: nn.Module,
        images: Tensor,
        *,
        mirror: bool,
    ) -> None:
        self._head, self._width = head, images.shape[-1]
        self._pyramids = [backbone(images)] + ([backbone(images.flip(-1))] if mirror else [])

    def of_boxes(self, boxes: Tensor, image_index: Tensor) -> list[Tensor]:
        """Per view (R, channels) for boxes (R, 4) of images (R,)."""
        views = [boxes, _mirrored(boxes, self._width)][: len(self._pyramids)]
        return [self._head(pyramid, view, image_index) for pyramid, view in zip(self._pyramids, views, strict=True)]

    def of_bags(self, boxes: Tensor, image_index: Tensor, filled: Tensor | None = None) -> list[Tensor]:
        """Per view (N, M, channels) for bags (N, M, 4); zeros on padding, which is never computed.

        Args:
            filled: (V,) int64, the places of N * M that are no padding; None if all are.
        """
        bags, masks = boxes.shape[:2]
        images = image_index.repeat_interleave(masks)
        if filled is None:
            return [found.unflatten(0, (bags, masks)) for found in self.of_boxes(boxes.flatten(0, 1), images)]
        result = []
        for embedding in self.of_boxes(boxes.flatten(0, 1)[filled], images[filled]):
            padded = embedding.new_zeros(bags * masks, embedding.shape[-1])
            result.append(padded.index_copy(0, filled, embedding).unflatten(0, (bags, masks)))
        return result

    @staticmethod
    def mean(views: list[Tensor]) -> Tensor:
        """The mean over the views."""
        return views[0] if len(views) == 1 else torch.stack(views).mean(dim=0)


def _mirrored(boxes: Tensor, width: int) -> Tensor:
    return torch.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], dim=1)
