"""Training batches as a pure function of the iteration."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from sapnet_pipe.stages.segment.config import HeadConfig, ImageConfig
from sapnet_pipe.stages.segment.labels import LabelledImage, LabelSet, read_masks
from sapnet_pipe.stages.segment.solov2.heads import MASK_STRIDE
from sapnet_pipe.stages.segment.solov2.targets import ImageTargets, Untrained, image_targets
from sapnet_pipe.stages.training.distributed import World
from sapnet_pipe.stages.training.image_batch import ImageTransform, batch_images, resize_transform, transform_masks

_ALONE = World()


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


class Draw(NamedTuple):
    """The random part of how an image is shown: its short side in pixels, and whether it is mirrored."""

    short_side: int
    flip: bool


def draws_at(seed: int, iteration: int, batch_size: int, short_sides: Sequence[int], *, flip: bool) -> list[Draw]:
    """What is drawn for the images of one training step; the same in both engines, and after a resume."""
    rng = np.random.default_rng([seed, iteration])
    sides = rng.choice(short_sides, batch_size)
    flips = rng.random(batch_size) < (0.5 if flip else 0)
    return [Draw(int(side), bool(mirrored)) for side, mirrored in zip(sides, flips, strict=True)]


class ImageOrder:
    """Which image is the n-th that a training sees: every epoch another permutation, a function of the seed alone."""

    def __init__(self, count: int, seed: int) -> None:
        self._count, self._seed = count, seed
        self._epoch, self._order = -1, np.zeros(0, np.int64)

    def __call__(self, place: int) -> int:
        """Index of the image at `place`, from 0."""
        epoch, index = divmod(place, self._count)
        if epoch != self._epoch:
            self._epoch = epoch
            self._order = np.random.default_rng([self._seed, epoch, 1]).permutation(self._count)
        return int(self._order[index])


class TrainBatches:
    """``batch_at`` of the training: shuffled images, resized to a drawn size, half of them mirrored.

    Every epoch is another permutation of the images; all draws are functions of (seed, iteration), so that a resumed
    run goes on with the batches that an undisturbed one would have seen. Of several processes each draws for the whole
    batch and makes its share.
    """

    def __init__(
        self,
        labels: LabelSet,
        image: ImageConfig,
        head: HeadConfig,
        batch_size: int,
        seed: int,
        world: World = _ALONE,
    ) -> None:
        self._world = world
        self._labels, self._image, self._head = labels, image, head
        self._batch_size, self._seed = batch_size, seed
        self._cached: dict[int, NDArray[np.uint8]] = {}
        self._cache_left = image.cache_mb * 2**20
        self._image_at = ImageOrder(len(labels.images), seed)

    def __call__(self, iteration: int) -> SegmentBatch:
        """The batch of one training step; UserError if a photograph cannot be read."""
        first = iteration * self._batch_size
        chosen = [self._image_at(place) for place in range(first, first + self._batch_size)]
        draws = draws_at(self._seed, iteration, len(chosen), self._image.short_sides, flip=self._image.flip)
        labelled = [self._labels.images[index] for index in chosen]
        transforms = [
            resize_transform(record.height, record.width, draw.short_side, self._image.long_side, flip=draw.flip)
            for record, draw in zip((image.record for image in labelled), draws, strict=True)
        ]
        own = slice(*self._world.bounds(len(chosen)))
        images = batch_images([self._pixels(index) for index in chosen[own]], transforms[own], transforms)
        feat_size = (images.shape[2] // MASK_STRIDE, images.shape[3] // MASK_STRIDE)
        own_images = zip(labelled[own], transforms[own], strict=True)
        targets, untrained = zip(*(self._targets(*image, feat_size) for image in own_images), strict=True)
        return SegmentBatch(images, targets, tuple(entry for entries in untrained for entry in entries))

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
        self, image: LabelledImage, transform: ImageTransform, feat_size: tuple[int, int]
    ) -> tuple[ImageTargets, Untrained]:
        masks, alternates = read_masks(image)
        return image_targets(
            _placed(masks, transform),
            [_placed(group, transform) for group in alternates],
            image.classes,
            image.annotation_ids,
            feat_size=feat_size,
            head=self._head,
            num_classes=len(self._labels.categories),
        )


def _placed(masks: NDArray[np.uint8], transform: ImageTransform) -> NDArray[np.uint8]:
    """Masks as they lie in the network's input, (N, transform.height, transform.width) uint8."""
    return transform_masks(masks.view(np.bool_), transform).view(np.uint8)
