"""Exact outlines of a mask: walks along the edges of its pixels.

A corner is a grid point (x, y) of the frame in which (0, 0) is the top-left corner of the top-left pixel. Pixels that
touch at a corner alone belong to different parts. Every ring is simple: it passes no grid point twice, except that one
at which two pixels touch may be listed twice in a row, with the steps into the one pixel and into the other.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from sapnet_pipe.data.coco.masks import Mask

Ring = NDArray[np.int64]
"""(N, 4): x, y of a corner, and the steps (-1 or 1) in x and y that lead from it into the mask's own pixel there."""


@dataclass(frozen=True)
class Part:
    """One connected part of a mask: on the screen the outer ring runs clockwise, those of the holes the other way."""

    outer: Ring
    holes: tuple[Ring, ...]


def parts_of(mask: Mask) -> list[Part]:
    """(H, W) bool -> its parts from top to bottom, which fill it exactly."""
    if not mask.any():
        return []
    _, labels = cv2.connectedComponents(mask.view(np.uint8), connectivity=4)
    outer: dict[int, Ring] = {}
    holes: dict[int, list[Ring]] = {}
    for ring in _rings(mask):
        x, y = _pixel_below(ring)
        label = int(labels[y, x])
        if _signed_area(ring) > 0:
            outer[label] = ring
        else:
            holes.setdefault(label, []).append(ring)
    return [Part(ring, tuple(holes.get(label, ()))) for label, ring in sorted(outer.items())]


def corners_of(ring: Ring) -> NDArray[np.int64]:
    """(N, 2) x, y of the ring's corners, each once."""
    xy = ring[:, :2]
    return xy[(xy != np.roll(xy, 1, axis=0)).any(axis=1)]


def _rings(mask: Mask) -> Iterator[Ring]:
    """All rings with the mask on their right-hand side, y pointing down."""
    xy, along_row, along_column, starts = _corners(mask)
    x, y = xy.T.tolist()
    visited = [False] * len(x)
    for start in starts:
        if visited[start]:
            continue
        walk, corner = [], start
        while not visited[corner]:
            opposite = along_row[corner]
            visited[corner] = visited[opposite] = True
            walk += [corner, opposite]
            corner = along_column[opposite]
        corners = _with_steps(xy[walk])
        for ring in _simple([(x[place], y[place]) for place in walk]):
            yield corners[ring]


def _corners(mask: Mask) -> tuple[NDArray[np.int64], list[int], list[int], list[int]]:
    """Where outlines turn.

    Returns: corners (N, 2), those at which two pixels touch given twice; the corner at the other end of each one's edge
        along its row, and along its column; and the corners from which an edge above the mask runs to the right.
    """
    padded = np.pad(mask, 1)
    top_left, top_right, low_left, low_right = padded[:-1, :-1], padded[:-1, 1:], padded[1:, :-1], padded[1:, 1:]
    once = top_left ^ top_right ^ low_left ^ low_right
    twice = (top_left == low_right) & (top_right == low_left) & (top_left != top_right)
    y, x = (np.concatenate(pair) for pair in zip(np.nonzero(once), np.nonzero(twice), np.nonzero(twice), strict=True))
    count, touching = len(x), int(np.count_nonzero(twice))
    is_second = np.arange(count) >= count - touching  # the first of two ends the edge on its left
    falling = top_left[y, x]  # of two touching pixels, whether they are top left and bottom right
    in_rows = np.lexsort((is_second, x, y))
    in_columns = np.lexsort((is_second == falling, y, x))  # the last of two has its edge along the column below it
    left_ends = in_rows[0::2]
    starts = left_ends[low_right[y[left_ends], x[left_ends]]]
    return np.stack([x, y], axis=1), _partners(in_rows), _partners(in_columns), starts.tolist()


def _partners(order: NDArray[np.int64]) -> list[int]:
    partner = np.empty(len(order), np.int64)
    partner[order[0::2]], partner[order[1::2]] = order[1::2], order[0::2]
    return list(partner.tolist())


def _simple(walk: list[tuple[int, int]]) -> Iterator[list[int]]:
    """A closed walk as rings that pass no point twice: the places of their corners in the walk."""
    first_at: dict[tuple[int, int], int] = {}  # point -> its place in `open_places`
    open_places: list[int] = []
    for place, point in enumerate(walk):
        if point in first_at:
            first = first_at[point]
            yield [*open_places[first:], place]
            for passed in open_places[first + 1 :]:
                first_at.pop(walk[passed], None)
            first_at[point] = first
            del open_places[first + 1 :]
        else:
            first_at[point] = len(open_places)
        open_places.append(place)
    yield open_places


def _with_steps(xy: NDArray[np.int64]) -> Ring:
    """(N, 2) -> (N, 4): at each corner the steps from its two edges into the mask, which lies to their right."""
    ahead = np.roll(xy, -1, axis=0) - xy
    turn = np.sign(ahead + np.roll(ahead, 1, axis=0))  # of the two edges at a corner one is level, one upright
    return np.concatenate([xy, -turn[:, 1:], turn[:, :1]], axis=1)


def _pixel_below(ring: Ring) -> tuple[int, int]:
    """A pixel of the mask beside the ring: that below an edge which runs to the right."""
    place = int(np.argmax(np.roll(ring[:, 0], -1) > ring[:, 0]))
    return int(ring[place, 0]), int(ring[place, 1])


def _signed_area(ring: Ring) -> int:
    x, y = ring[:, 0], ring[:, 1]
    return int(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y)) // 2
