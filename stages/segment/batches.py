"""Training batches as a pure function of the iteration."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from stages.image_batch import View, batch_images, masks_to_view, view_of
from stages.segment.config import HeadConfig, ImageConfig
from stages.segment.labels import LabelledImage, LabelSet, read_masks
from stages.segment.mask_head import MASK_STRIDE
from stages.segment.targets import ImageTargets, build_targets


class SegmentBatch(NamedTuple):
    """What one training step sees.

    Attributes:
        images: (B, 3, H, W) float32, normalised and padded.
        targets: One per image.
        untrained: (annotation id, reason) of each object that no cell predicts.
    """

    images: Tensor
    targets: tuple[ImageTargets, ...]
    untrained: tuple[tuple[int, str], ...]


class TrainBatches:
    """``batch_at`` of the training: shuffled images, resized to a drawn size, half of them mirrored.

    Every epoch is another permutation of the images; all draws are functions of (seed, iteration), so that a resumed
    run goes on with the batches that an undisturbed one would have seen.
    """

    def __init__(self, labels: LabelSet, image: ImageConfig, head: HeadConfig, batch_size: int, seed: int) -> None:
        self._labels, self._image, self._head = labels, image, head
        self._batch_size, self._seed = batch_size, seed
        self._cached: dict[int, NDArray[np.uint8]] = {}
        self._cache_left = image.cache_mb * 2**20
        self._epoch, self._order = -1, np.zeros(0, np.int64)

    def __call__(self, iteration: int) -> SegmentBatch:
        """The batch of one training step; UserError if a photograph cannot be read."""
        rng = np.random.default_rng([self._seed, iteration])
        first = iteration * self._batch_size
        chosen = [self._image_at(place) for place in range(first, first + self._batch_size)]
        sides = rng.choice(self._image.short_sides, len(chosen))
        flips = rng.random(len(chosen)) < (0.5 if self._image.flip else 0)
        labelled = [self._labels.images[index] for index in chosen]
        views = [
            view_of(image.record.height, image.record.width, int(side), self._image.long_side, flip=bool(flip))
            for image, side, flip in zip(labelled, sides, flips, strict=True)
        ]
        images = batch_images([self._pixels(index) for index in chosen], views).images
        feat_size = (images.shape[2] // MASK_STRIDE, images.shape[3] // MASK_STRIDE)
        made = [self._targets(image, view, feat_size) for image, view in zip(labelled, views, strict=True)]
        targets, untrained = zip(*made, strict=True)
        return SegmentBatch(images, targets, tuple(entry for entries in untrained for entry in entries))

    def _image_at(self, place: int) -> int:
        epoch, index = divmod(place, len(self._labels.images))
        if epoch != self._epoch:
            self._epoch = epoch
            self._order = np.random.default_rng([self._seed, epoch, 1]).permutation(len(self._labels.images))
        return int(self._order[index])

    def _pixels(self, index: int) -> NDArray[np.uint8]:
        """Decoded photographs are kept as long as they fit; the others are decoded again each time."""
        if index in self._cached:
            return self._cached[index]
        pixels = self._labels.read_pixels(self._labels.images[index])
        if pixels.nbytes <= self._cache_left:
            self._cache_left -= pixels.nbytes
            self._cached[index] = pixels
        return pixels

    def _targets(
        self, image: LabelledImage, view: View, feat_size: tuple[int, int]
    ) -> tuple[ImageTargets, list[tuple[int, str]]]:
        masks, alternates = read_masks(image)
        placed = _placed(masks, view)
        targets = build_targets(
            placed,
            np.asarray(image.classes, np.int64),
            [_placed(group, view) for group in alternates],
            feat_size=feat_size,
            num_grids=self._head.num_grids,
            scale_ranges=self._head.scale_ranges,
            sigma=self._head.sigma,
            num_classes=len(self._labels.categories),
        )
        lost = sorted(set(range(len(masks))) - set(targets.instance.tolist()))
        reasons = ["too large or small for every level" if placed[i].any() else "gone in the resize" for i in lost]
        return targets, [(image.annotation_ids[i], reason) for i, reason in zip(lost, reasons, strict=True)]


def _placed(masks: NDArray[np.uint8], view: View) -> NDArray[np.uint8]:
    """Masks as they lie in the network's input, (N, view.height, view.width) uint8."""
    return masks_to_view(masks.view(np.bool_), view).view(np.uint8)
