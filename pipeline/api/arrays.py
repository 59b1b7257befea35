"""What a Python program hands in as arrays, checked."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sapnet_pipe.data.errors import UserError


def checked_image(image: NDArray[Any]) -> NDArray[np.uint8]:
    """The image itself. Raises: UserError unless it is (H, W, 3) uint8 with at least one pixel."""
    array = np.asarray(image)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or not array.size:
        found, problem = f"{array.dtype} of shape {array.shape}", "not (H, W, 3) uint8 RGB"
        hint = "Scale the pixels to 0..255, repeat a grey channel three times, and leave out an alpha channel"
        raise UserError("image", "array", found, problem, hint)
    return array


def checked_points(points: ArrayLike, height: int, width: int) -> NDArray[np.float32]:
    """(N, 2) float32 of one (x, y), or of N.

    Raises: UserError unless these are pairs of numbers inside the image.
    """
    try:
        xy = np.atleast_2d(np.asarray(points, np.float32))
    except (TypeError, ValueError) as error:
        raise UserError("points", "array", repr(points), "not numbers", "Give [[x, y], ...] in pixels") from error
    if xy.ndim != 2 or xy.shape[1] != 2:
        raise UserError("points", "shape", xy.shape, "not (N, 2)", "Give [[x, y], ...] in pixels")
    outside = np.flatnonzero(~((xy >= 0) & (xy < (width, height))).all(axis=1))
    if len(outside):
        place = int(outside[0])
        problem = f"but the image is {width} wide and {height} high"
        raise UserError(
            "points", f"points[{place}]", xy[place].tolist(), problem, "Give x, then y, in pixels of the image"
        )
    return xy
