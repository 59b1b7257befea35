"""What one step of the selector sees."""

from typing import NamedTuple

from torch import Tensor


class Whole(NamedTuple):
    """The batch of all processes together, and where this process's share of it begins: images and bags of both."""

    images: int
    bags: int
    first_image: int = 0
    first_bag: int = 0


class SelectBatch(NamedTuple):
    """N bags of I images, M masks per bag and P neighbours per point (both padded); all in network pixels.

    Attributes:
        images: (I, 3, H, W) float32, normalised.
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
        whole: What this batch is a share of.
    """

    images: Tensor
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
