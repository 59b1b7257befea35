"""Outlines as forms want them: with fewer corners, without holes, as one polygon."""

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from sapnet_pipe.data.coco.masks import Mask
from sapnet_pipe.data.exports.shapes.outlines import Part, Ring, parts_of

_FEWEST = 3
_ROWS_AT_ONCE = 256


def simplified(ring: Ring, tolerance: float) -> Ring:
    """The ring without the corners that lie within `tolerance` pixels of the line between others (Douglas, Peucker)."""
    if tolerance <= 0:
        return ring
    kept = cv2.approxPolyDP(ring[:, None, :2].astype(np.int32), tolerance, True)[:, 0]
    if len(kept) < _FEWEST:
        return ring
    place = {(x, y): index for index, (x, y) in enumerate(ring[:, :2].tolist())}
    return ring[[place[x, y] for x, y in kept.tolist()]]


@dataclass(frozen=True)
class Outlines:
    """A mask as rings without holes, one for each of its parts, and what became of the holes."""

    rings: list[Ring]
    holes_filled: int = 0
    holes_bridged: int = 0


def outlines_of(mask: Mask, *, holes: Literal["fill", "bridge"], tolerance: float) -> Outlines:
    """(H, W) bool -> its outlines for a form without holes.

    Args:
        holes: Whether holes are filled, or joined to the outline by a line of no width; such an outline keeps all of
            its corners.
        tolerance: See `simplified`.
    """
    rings, found = [], 0
    for part in parts_of(mask):
        found += len(part.holes)
        is_bridged = holes == "bridge" and part.holes
        rings.append(bridged(part, mask) if is_bridged else simplified(part.outer, tolerance))
    return Outlines(rings, 0, found) if holes == "bridge" else Outlines(rings, found, 0)


def bridged(part: Part, mask: Mask) -> Ring:
    """The part as one ring that runs to each of its holes and back on a line through pixels of the mask.

    Readers that count crossings see the holes.

    Args:
        part: As `parts_of` gives it, not simplified.
        mask: (H, W) bool, of which it is a part.
    """
    ring = part.outer
    for hole in sorted(part.holes, key=lambda hole: int(hole[:, 0].min())):
        leftmost = np.flatnonzero(hole[:, 0] == hole[:, 0].min())
        start = leftmost[np.argmin(hole[leftmost, 1])]
        x, y = (int(value) for value in hole[start, :2])
        background = np.flatnonzero(~mask[y, :x])
        left = int(background[-1]) + 1 if len(background) else 0
        place = _upright_edge(ring, left, y)
        there = np.array([[left, y, 1, 1], [x, y, -1, 1]])
        inner = np.roll(hole, -start, axis=0)
        ring = np.concatenate([ring[: place + 1], there, inner, inner[:1], there[::-1], ring[place + 1 :]])
    return ring


def joined(rings: list[Ring]) -> Ring:
    """Several rings as one, which runs from the largest to each other and back where they are nearest."""
    ordered = sorted(rings, key=lambda ring: -float(cv2.contourArea(ring[:, None, :2].astype(np.float32))))
    whole = ordered[0]
    for ring in ordered[1:]:
        here, there = _nearest(whole, ring)
        turned = np.roll(ring, -there, axis=0)
        back = whole[here : here + 1]
        whole = np.concatenate([whole[: here + 1], turned, turned[:1], back, whole[here + 1 :]])
    return whole


def inset(ring: Ring, distance: float) -> NDArray[np.float64]:
    """(N, 2) float64: the corners moved into the mask's own pixels, so that cutting to whole numbers names these."""
    return np.asarray(ring[:, :2] + distance * ring[:, 2:], np.float64)


def in_pixels(ring: Ring, first: float, last: float) -> NDArray[np.float64]:
    """(N, 2) float64: each corner in the mask's own pixel there, in shares of a pixel from its left and upper side.

    Args:
        first, last: The share where the mask begins, from left or from above, and where it ends.
    """
    ends = ring[:, 2:] < 0
    return np.asarray(ring[:, :2] - ends + np.where(ends, last, first), np.float64)


def _upright_edge(ring: Ring, x: int, y: int) -> int:
    """The place of the corner after which the ring runs along column line `x` past the pixels of row `y`."""
    after = np.roll(ring, -1, axis=0)
    low, high = np.minimum(ring[:, 1], after[:, 1]), np.maximum(ring[:, 1], after[:, 1])
    return int(np.flatnonzero((ring[:, 0] == x) & (after[:, 0] == x) & (low <= y) & (y < high))[0])


def _nearest(a: Ring, b: Ring) -> tuple[int, int]:
    """Places of the two nearest corners."""
    best, places = np.inf, (0, 0)
    for first in range(0, len(b), _ROWS_AT_ONCE):
        some = b[first : first + _ROWS_AT_ONCE, None, :2]
        distances = np.square(some - a[None, :, :2]).sum(axis=2)
        row, column = np.unravel_index(int(distances.argmin()), distances.shape)
        if distances[row, column] < best:
            best, places = float(distances[row, column]), (int(column), first + int(row))
    return places
