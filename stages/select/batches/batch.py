"""What one step of the selector is given: the record, and how it is made of some images and their bags."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sapnet_pipe.stages.select.batches.bag_images import BagImages, padded_bags
from sapnet_pipe.stages.select.method.pdg import same_class_neighbours
from sapnet_pipe.stages.training.image_batch import ImageTransform, transform_boxes, transform_points


class Whole(NamedTuple):
    """The batch of all processes together, and where this process's part of it begins: images and bags of both."""

    images: int
    bags: int
    first_image: int = 0
    first_bag: int = 0


class SelectBatch(NamedTuple):
    """N bags of I images, M masks per bag and P neighbours per point (both padded); all in network pixels.

    Attributes:
        inputs: What the feature provider is given: (I, 3, H, W) float32, normalised images, or what was computed of
            them before.
        image_size: (I, 2) float32, height and width without padding.
        image_index, slot: (N,) int64, the image of each bag and its place among that image's bags.
        most_bags: Of any of the images.
        class_index: (N,) int64, 0..C-1.
        point_xy: (N, 2) float32.
        boxes: (N, M, 4) float32.
        valid: (N, M) bool, False on padding.
        filled: (V,) int64, where it is True, counted through N * M; made beside the images, so no device has to wait.
        neighbours_xy, neighbours_valid: (N, P, 2) float32, (N, P) bool, the other points of the class in the image.
        rows: (N,) int64, the bags' rows in the table.
        whole: What this batch is a part of.
    """

    inputs: Tensor
    image_size: Tensor
    image_index: Tensor
    slot: Tensor
    most_bags: int
    class_index: Tensor
    point_xy: Tensor
    boxes: Tensor
    valid: Tensor
    filled: Tensor
    neighbours_xy: Tensor
    neighbours_valid: Tensor
    rows: Tensor
    whole: Whole


def build_batch(
    images: BagImages,
    inputs: Tensor,
    chosen: Sequence[int],
    transforms: Sequence[ImageTransform],
    rows: Sequence[NDArray[np.int64]],
    whole: Whole,
) -> SelectBatch:
    """Lay the bags of some images out in network pixels.

    Args:
        inputs: What the provider is given of the chosen images. chosen: Images of this process.
        transforms: How each lies in the network's input. rows: The bags of each that take part.
    """
    neighbours = [_neighbours(images, i, r, t) for i, r, t in zip(chosen, rows, transforms, strict=True)]
    neighbours_xy, neighbours_valid = _stack_padded(neighbours)
    boxes, valid = padded_bags(images.table, np.concatenate(rows))
    counts = [len(r) for r in rows]
    bounds = np.cumsum([0, *counts])
    placed = [transform_boxes(boxes[a:b], t) for a, b, t in zip(bounds[:-1], bounds[1:], transforms, strict=True)]
    points = [transform_points(images.table.point_xy[r], t) for r, t in zip(rows, transforms, strict=True)]
    return SelectBatch(
        inputs=inputs,
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
