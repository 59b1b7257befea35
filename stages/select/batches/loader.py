"""Batches of the selector as pure functions of the iteration, for training and for the selection pass."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sapnet_pipe.stages.select.batches.bag_images import BagImages, padded_bags
from sapnet_pipe.stages.select.batches.select_batch import SelectBatch, Whole
from sapnet_pipe.stages.select.config import ImageConfig
from sapnet_pipe.stages.select.method.pdg import same_class_neighbours
from sapnet_pipe.stages.training.distributed import World
from sapnet_pipe.stages.training.image_batch import (
    ImageTransform,
    batch_images,
    resize_transform,
    transform_boxes,
    transform_points,
)

_ALONE = World()
# What the network sees of images: they, their transforms, those of the global batch, and the bags that take part.
Look = Callable[
    [Sequence[int], Sequence[ImageTransform], Sequence[ImageTransform], Sequence[NDArray[np.int64]]], Tensor
]


class TrainBatches:
    """``batch_at`` of the training: shuffled images, half of them mirrored, crowded ones thinned.

    Every epoch is another permutation of the images; all draws are functions of (seed, iteration), so that a resumed
    run goes on with the batches that an undisturbed one would have seen. Of several processes each draws for the whole
    batch and makes its share of the images.
    """

    def __init__(
        self,
        images: BagImages,
        config: ImageConfig,
        batch_size: int,
        seed: int,
        world: World = _ALONE,
        look: Look | None = None,
    ) -> None:
        self._images, self._config, self._batch_size, self._seed = images, config, batch_size, seed
        self._world = world
        self._look = look or _PixelCache(images, config.cache_mb)
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
        return build_batch(self._images, self._look, chosen, transforms, rows, whole, slice(begin, end))

    def _image_at(self, place: int) -> int:
        epoch, index = divmod(place, len(self._images))
        if epoch != self._epoch:
            self._epoch = epoch
            self._order = np.random.default_rng([self._seed, epoch, 1]).permutation(len(self._images))
        return int(self._order[index])

    def _thinned(self, rows: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
        limit = self._config.max_points
        return rows if len(rows) <= limit else np.sort(rng.choice(rows, limit, replace=False))


class TestBatches:
    """``batch_at`` of the selection pass: all images in order, all their points, never mirrored."""

    __test__ = False

    def __init__(self, images: BagImages, config: ImageConfig, batch_size: int, look: Look | None = None) -> None:
        self._images, self._config, self._batch_size = images, config, batch_size
        self._look = look or _PixelCache(images, 0)

    def __len__(self) -> int:
        return -(-len(self._images) // self._batch_size)

    def __call__(self, index: int) -> SelectBatch:
        """Batch `index` of `len(self)`."""
        first = index * self._batch_size
        chosen = list(range(first, min(first + self._batch_size, len(self._images))))
        rows = [self._images.rows(image) for image in chosen]
        transforms = _transforms(self._images, self._config, chosen, [False] * len(chosen))
        whole = Whole(len(chosen), sum(map(len, rows)))
        return build_batch(self._images, self._look, chosen, transforms, rows, whole, slice(None))


class _PixelCache:
    """Resized photographs, kept as long as they fit; what does not fit is decoded again each time."""

    def __init__(self, images: BagImages, megabytes: int) -> None:
        self._images, self._left = images, megabytes * 2**20
        self._kept: dict[int, NDArray[np.uint8]] = {}

    def __call__(
        self,
        chosen: Sequence[int],
        transforms: Sequence[ImageTransform],
        every: Sequence[ImageTransform],
        rows: Sequence[NDArray[np.int64]],
    ) -> Tensor:
        pixels = [self._get(image, transform) for image, transform in zip(chosen, transforms, strict=True)]
        return batch_images(pixels, transforms, every)

    def _get(self, image: int, transform: ImageTransform) -> NDArray[np.uint8]:
        if image in self._kept:
            return self._kept[image]
        pixels = self._images.read(image, transform)
        if pixels.nbytes <= self._left:
            self._left -= pixels.nbytes
            self._kept[image] = pixels
        return pixels


def build_batch(
    images: BagImages,
    look: Look,
    chosen: Sequence[int],
    transforms: Sequence[ImageTransform],
    rows: Sequence[NDArray[np.int64]],
    whole: Whole,
    own: slice,
) -> SelectBatch:
    """Look at the chosen images and lay their bags out in network pixels.

    Args:
        chosen: Images of the whole batch. transforms: How each is seen. rows: The bags of each that take part.
        own: This process's share of them; its images are padded to the size of the largest of all.
    """
    every = transforms
    chosen, transforms, rows = chosen[own], transforms[own], rows[own]
    neighbours = [_neighbours(images, i, r, t) for i, r, t in zip(chosen, rows, transforms, strict=True)]
    boxes, valid = padded_bags(images.table, np.concatenate(rows))
    counts = [len(r) for r in rows]
    bounds = np.cumsum([0, *counts])
    placed = [transform_boxes(boxes[a:b], t) for a, b, t in zip(bounds[:-1], bounds[1:], transforms, strict=True)]
    points = [transform_points(images.table.point_xy[r], t) for r, t in zip(rows, transforms, strict=True)]
    neighbours_xy, neighbours_valid = _stack_padded(neighbours)
    return SelectBatch(
        images=look(chosen, transforms, every, rows),
        image_size=torch.tensor([[transform.height, transform.width] for transform in transforms], dtype=torch.float32),
        image_index=torch.arange(len(chosen)).repeat_interleave(torch.tensor(counts)),
        slot=torch.cat([torch.arange(count) for count in counts]),
        most_bags=max(counts),
        class_index=torch.from_numpy(images.class_index[np.concatenate(rows)]),
        point_xy=torch.from_numpy(np.concatenate(points)),
        boxes=torch.from_numpy(np.concatenate(placed)),
        valid=torch.from_numpy(valid),
        filled=torch.from_numpy(np.flatnonzero(valid)),
        neighbours_xy=neighbours_xy,
        neighbours_valid=neighbours_valid,
        rows=torch.from_numpy(np.concatenate(rows)),
        whole=whole,
    )


def _transforms(
    images: BagImages, config: ImageConfig, chosen: Sequence[int], flips: Sequence[bool]
) -> list[ImageTransform]:
    records = [images.record(image) for image in chosen]
    return [
        resize_transform(record.height, record.width, config.short_side, config.long_side, flip=flip)
        for record, flip in zip(records, flips, strict=True)
    ]


def _neighbours(
    images: BagImages, image: int, rows: NDArray[np.int64], transform: ImageTransform
) -> tuple[Tensor, Tensor]:
    """Neighbours of the chosen rows among all points of the image, also those that were thinned out."""
    everything = images.rows(image)
    points = torch.from_numpy(transform_points(images.table.point_xy[everything], transform))
    xy, valid = same_class_neighbours(points, torch.from_numpy(images.class_index[everything]))
    chosen = torch.from_numpy(rows - everything[0])
    return xy[chosen], valid[chosen]


def _stack_padded(parts: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Join per-image neighbours (N_i, P_i, 2) and (N_i, P_i), padded to the largest P."""
    most = max(valid.shape[1] for _, valid in parts)
    pad = torch.nn.functional.pad
    return (
        torch.cat([pad(xy, (0, 0, 0, most - xy.shape[1])) for xy, _ in parts]),
        torch.cat([pad(valid, (0, most - valid.shape[1])) for _, valid in parts]),
    )
