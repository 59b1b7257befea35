"""Making points from masks, as stand-ins for a person's clicks.

Masks are filled in the whole image and cropped to their own tight box. The authors' tool instead shifts the polygon by
the corner of the annotated box, fills it in a canvas of that box's size cut down to whole pixels, and so shifts every
mask by a fraction of a pixel and loses the last row and column of many; uncompressed RLE it does not move at all.

A drawn pixel (row, column) becomes a point somewhere inside that pixel: its centre (column + 0.5, row + 0.5) in our
frame, moved by up to half a pixel on each axis. The tool moves (column, row) itself, the pixel's upper left corner,
and so can leave mask and image; ours never does. Coordinates keep three decimals.
"""

from collections import Counter
from collections.abc import Callable

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from sapnet_pipe.data.boxes import mask_to_box
from sapnet_pipe.data.coco.instances import InstanceDataset, counts_of
from sapnet_pipe.data.coco.masks import Mask, decode_mask
from sapnet_pipe.data.errors import UserError
from sapnet_pipe.data.points.point_set import PointSet, build_point_set
from sapnet_pipe.data.progress import progress_bar

_SIGMA = 0.25  # of the box's side, per axis
_CORE = 0.25  # size of the central ellipse relative to the box
_CORE_LIMIT = 96  # pixels, longest semi-axis
_MAX_WORD = 2**64

Drawn = tuple[int, int]


def quasi_center_probability(mask: Mask) -> NDArray[np.float64]:
    """Where the authors' quasi-centre points fall: a Gaussian about the box's centre, in the mask's central ellipse.

    Args:
        mask: (h, w) bool, cropped to the object's box, h and w at least 2, not empty.
    Returns: (h, w) float64, sums to 1; without the ellipse where that would leave nothing.
    """
    height, width = mask.shape
    x = np.arange(width) / (width - 1) - 0.5
    y = np.arange(height) / (height - 1) - 0.5
    gaussian = np.exp(-(x[None, :] ** 2 + y[:, None] ** 2) / (2 * _SIGMA**2)) * mask
    axes = (round(min(_CORE_LIMIT, width * _CORE / 2)), round(min(_CORE_LIMIT, height * _CORE / 2)))
    ellipse = np.zeros((height, width))
    cv2.ellipse(ellipse, (round(width / 2), round(height / 2)), axes, 0, 0, 360, 1.0, -1)
    core = gaussian * ellipse
    probability = core if core.sum() > 0 else gaussian
    return np.asarray(probability / probability.sum())


def quasi_center(mask: Mask, rng: Generator) -> Drawn:
    """Draw (row, column) from `quasi_center_probability`; any mask pixel of a mask less than 2 pixels high or wide."""
    if min(mask.shape) < 2:
        return uniform(mask, rng)
    cumulative = np.cumsum(quasi_center_probability(mask))
    # Rounding may leave the last sum below 1: scaling keeps a draw from running past the last mask pixel.
    index = int(np.searchsorted(cumulative, rng.random() * cumulative[-1], side="right"))
    return divmod(index, mask.shape[1])


def center(mask: Mask, rng: Generator) -> Drawn:
    """The mask pixel (row, column) nearest the mask's centre of mass, the first of equals; draws nothing."""
    rows, columns = np.nonzero(mask)
    distance = (rows - rows.mean()) ** 2 + (columns - columns.mean()) ** 2
    nearest = int(distance.argmin())
    return int(rows[nearest]), int(columns[nearest])


def uniform(mask: Mask, rng: Generator) -> Drawn:
    """Any mask pixel (row, column), each as likely as the other."""
    inside = np.flatnonzero(mask)
    return divmod(int(inside[rng.integers(len(inside))]), mask.shape[1])


STRATEGIES: dict[str, Callable[[Mask, Generator], Drawn]] = {
    "quasi-center": quasi_center,
    "center": center,
    "uniform": uniform,
}


def sample_points(dataset: InstanceDataset, strategy: str, seed: int, *, quiet: bool = True) -> PointSet:
    """One point per object, its id that of the annotation.

    A point depends on (seed, annotation id) and its mask alone, so neither order nor other objects matter. Crowds,
    annotations without a mask, and masks without a pixel are left out and counted in `dropped`.

    Args:
        strategy: ``quasi-center``, ``center`` (the pixel's centre exactly) or ``uniform``.
    Raises: UserError for another strategy, for a malformed mask, and if no object is left.
    """
    if strategy not in STRATEGIES:
        raise UserError("--strategy", "strategy", strategy, "which is not known", f"Choose {', '.join(STRATEGIES)}")
    rows: list[tuple[int, int, int, float, float]] = []
    dropped = Counter(crowd=0, without_mask=0, empty_mask=0)
    for annotation in progress_bar(dataset.annotations, desc="points", unit="object", quiet=quiet):
        if annotation.iscrowd or annotation.segmentation is None:
            dropped["crowd" if annotation.iscrowd else "without_mask"] += 1
            continue
        image = dataset.images[annotation.image_id]
        mask = decode_mask(counts_of(annotation, image, file=dataset.source), image.height, image.width)
        if not mask.any():
            dropped["empty_mask"] += 1
            continue
        rng = np.random.default_rng([seed % _MAX_WORD, annotation.annotation_id % _MAX_WORD])
        x, y = _point(mask, strategy, rng)
        rows.append((annotation.image_id, annotation.annotation_id, annotation.category_id, x, y))
    if not rows:
        count = f"{len(dataset.annotations)} annotations"
        reasons = ", ".join(f"{number} {reason.replace('_', ' ')}" for reason, number in dropped.items() if number)
        problem = f"none of which has a mask of one object ({reasons})"
        hint = "Give a file that has masks of single objects" + (", or --keep-crowds" if dropped["crowd"] else "")
        raise UserError(dataset.source, "annotations", count, problem, hint)
    return build_point_set(dataset.source, dataset.images, dataset.categories, rows, dict(dropped))


def _point(mask: Mask, strategy: str, rng: Generator) -> tuple[float, float]:
    left, top, right, bottom = mask_to_box(mask).astype(int).tolist()
    row, column = STRATEGIES[strategy](mask[top:bottom, left:right], rng)
    # Thousandths of a pixel from 0 to 0.999 never reach the next pixel, as rounding could.
    jitter = (0.5, 0.5) if strategy == "center" else (rng.integers(1000, size=2) / 1000).tolist()
    return left + column + jitter[0], top + row + jitter[1]
