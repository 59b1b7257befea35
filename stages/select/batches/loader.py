"""Batches of the selector as pure functions of the iteration, for training and for inference."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from sapnet_pipe.stages.select.batches.bag_images import BagImages
from sapnet_pipe.stages.select.batches.batch import SelectBatch, Whole, build_batch
from sapnet_pipe.stages.select.config import ImageConfig
from sapnet_pipe.stages.training.distributed import World
from sapnet_pipe.stages.training.image_batch import ImageTransform, batch_images, resize_transform

_ALONE = World()


class InputReader(Protocol):
    """Reads what a batch gives the feature provider of its images: their pixels, or what was computed of them."""

    def __call__(
        self,
        chosen: Sequence[int],
        transforms: Sequence[ImageTransform],
        whole: Sequence[ImageTransform],
        rows: Sequence[NDArray[np.int64]],
    ) -> Tensor:
        """One tensor, whose first axis counts the images (or the bags) in their order.

        Args:
            chosen, transforms: Images of this process, and how each lies in the network's input.
            whole: The transforms of the batch of all processes, which is padded to one size.
            rows: The bags of each chosen image that take part.
        """


class PixelReader:
    """Reads resized photographs and keeps them as long as they fit; what does not fit is decoded again each time."""

    def __init__(self, images: BagImages, megabytes: int) -> None:
        self._images, self._left = images, megabytes * 2**20
        self._kept: dict[int, NDArray[np.uint8]] = {}

    def __call__(
        self,
        chosen: Sequence[int],
        transforms: Sequence[ImageTransform],
        whole: Sequence[ImageTransform],
        rows: Sequence[NDArray[np.int64]],
    ) -> Tensor:
        """(I, 3, H, W) float32, normalised."""
        pixels = [self._get(image, transform) for image, transform in zip(chosen, transforms, strict=True)]
        return batch_images(pixels, transforms, whole)

    def _get(self, image: int, transform: ImageTransform) -> NDArray[np.uint8]:
        if image in self._kept:
            return self._kept[image]
        pixels = self._images.read(image, transform)
        if pixels.nbytes <= self._left:
            self._left -= pixels.nbytes
            self._kept[image] = pixels
        return pixels


class TrainBatches:
    """``batch_at`` of the training: shuffled images, half of them mirrored, crowded ones thinned.

    Every epoch is another permutation of the images; all draws are functions of (seed, iteration), so that a resumed
    run goes on with the batches that an undisturbed one would have seen. Of several processes each draws for the whole
    batch and makes its part of the images.
    """

    def __init__(
        self,
        images: BagImages,
        config: ImageConfig,
        batch_size: int,
        seed: int,
        world: World = _ALONE,
        reader: InputReader | None = None,
    ) -> None:
        self._images, self._config, self._batch_size, self._seed = images, config, batch_size, seed
        self._world = world
        self._read = reader or PixelReader(images, config.cache_mb)
        self._epoch, self._order = -1, np.zeros(0, np.int64)

    def __call__(self, iteration: int) -> SelectBatch:
        """The batch of one training step."""
        rng = np.random.default_rng([self._seed, iteration])
        first = iteration * self._batch_size
        chosen = [self._image_at(place) for place in range(first, first + self._batch_size)]
        flips = rng.random(len(chosen)) < 0.5 if self._config.flip else np.zeros(len(chosen), bool)
        rows = [self._thinned(self._images.rows(image), rng) for image in chosen]
        transforms = _transforms(self._images, self._config, chosen, flips.tolist())
        begin, end = self._world.bounds(len(chosen))
        whole = Whole(len(chosen), sum(map(len, rows)), begin, sum(map(len, rows[:begin])))
        chosen, rows, mine = chosen[begin:end], rows[begin:end], transforms[begin:end]
        inputs = self._read(chosen, mine, transforms, rows)
        return build_batch(self._images, inputs, chosen, mine, rows, whole)

    def _image_at(self, place: int) -> int:
        epoch, index = divmod(place, len(self._images))
        if epoch != self._epoch:
            self._epoch = epoch
            self._order = np.random.default_rng([self._seed, epoch, 1]).permutation(len(self._images))
        return int(self._order[index])

    def _thinned(self, rows: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
        limit = self._config.max_points
        return rows if len(rows) <= limit else np.sort(rng.choice(rows, limit, replace=False))


class InferenceBatches:
    """``batch_at`` of inference: all images in order, all their points, never mirrored."""

    def __init__(
        self, images: BagImages, config: ImageConfig, batch_size: int, reader: InputReader | None = None
    ) -> None:
        self._images, self._config, self._batch_size = images, config, batch_size
        self._read = reader or PixelReader(images, 0)

    def __len__(self) -> int:
        return -(-len(self._images) // self._batch_size)

    def __call__(self, index: int) -> SelectBatch:
        """Batch `index` of `len(self)`."""
        first = index * self._batch_size
        chosen = list(range(first, min(first + self._batch_size, len(self._images))))
        rows = [self._images.rows(image) for image in chosen]
        transforms = _transforms(self._images, self._config, chosen, [False] * len(chosen))
        inputs = self._read(chosen, transforms, transforms, rows)
        return build_batch(self._images, inputs, chosen, transforms, rows, Whole(len(chosen), sum(map(len, rows))))


def _transforms(
    images: BagImages, config: ImageConfig, chosen: Sequence[int], flips: Sequence[bool]
) -> list[ImageTransform]:
    records = [images.record(image) for image in chosen]
    return [
        resize_transform(record.height, record.width, config.short_side, config.long_side, flip=flip)
        for record, flip in zip(records, flips, strict=True)
    ]
