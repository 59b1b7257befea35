"""What the clicks of a file tell only together: in which unit and order they seem to have been written."""

import math
from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sapnet_pipe.data.checks.findings import Findings, shown, shown_box
from sapnet_pipe.data.coco.document import ImageRecord
from sapnet_pipe.data.coco.instances import Xywh
from sapnet_pipe.data.errors import FaultKind
from sapnet_pipe.data.points.click_file import OUTSIDE, Click, ClickFile

PERCENT = FaultKind(
    "points-in-percent",
    "points look like percent of the image, not pixels",
    "Multiply x by width / 100 and y by height / 100",
    fix="They are made pixels",
)
FRACTIONS = FaultKind(
    "points-as-fractions",
    "points look like fractions of the image, not pixels",
    "Multiply x by the width and y by the height",
    fix="They are made pixels",
)
SWAPPED = FaultKind(
    "points-swapped",
    "points look like [y, x], not [x, y]",
    "Write x, the distance from the left, first",
    fix="x and y are exchanged",
)
TWICE = FaultKind(
    "points-doubled",
    "points lie on another point of the same category",
    "Keep one point per object",
    error=False,
    fix="One of them is kept",
)
_NOT_IN_BOX = FaultKind(
    "points-beside-their-box", "points lie outside their own annotation's box", "Check points and boxes", error=False
)
_EMPTY_CATEGORY = FaultKind(
    "categories-without-points",
    "categories have no point, so nothing can be learnt about them",
    "Drop them",
    error=False,
)
_EMPTY_IMAGE = FaultKind("images-without-points", "images have no point and make no bags", "Drop them", error=False)

_UNLIKELY = math.log(1e-4)


class _Placed(NamedTuple):
    """N clicks whose images have a known size: xy, size (width, height) (N, 2), slack (N, 1), boxes (N, 4) XYWH."""

    clicks: list[Click]
    xy: NDArray[np.float64]
    size: NDArray[np.float64]
    slack: NDArray[np.float64]
    boxes: NDArray[np.float64]

    def inside(self, xy: NDArray[np.float64]) -> NDArray[np.bool_]:
        """(N,) whether points lie in the clicks' images."""
        return np.asarray(((xy >= -self.slack) & (xy < self.size + self.slack)).all(axis=1))

    def in_box(self, xy: NDArray[np.float64]) -> NDArray[np.bool_]:
        """(N,) whether points lie within the clicks' own boxes and a pixel around them; False without a box."""
        return np.asarray(((xy >= self.boxes[:, :2] - 1) & (xy <= self.boxes[:, :2] + self.boxes[:, 2:] + 1)).all(1))

    @property
    def boxed(self) -> NDArray[np.bool_]:
        """(N,) whether a click's own box is known."""
        return ~np.isnan(self.boxes[:, 0])


def check_clicks(found: ClickFile, boxes: Mapping[int, Xywh], misread: bool, findings: Findings) -> None:
    """Judge all clicks of a file together; where that explains why they lie outside, this is said instead.

    Args:
        boxes: Boxes of the objects that were clicked, by number of the annotation.
        misread: Whether clicks that are made of boxes are wrong, and why is known.
    """
    path = found.source
    if misread:
        made_of_boxes = _placed([click for click in found.clicks if click.field == "bbox"], found.images, boxes)
        findings.withdraw(OUTSIDE, path, int((~made_of_boxes.inside(made_of_boxes.xy)).sum()))
    placed = _placed([click for click in found.clicks if not (misread and click.field == "bbox")], found.images, boxes)
    if placed.clicks:
        off = ~placed.inside(placed.xy)
        kind = _misread_as(placed, off)
        if kind is not None:
            findings.withdraw(OUTSIDE, path, int(off.sum()))
            _add(kind, found, placed, np.ones(len(off), bool), findings)
        else:
            turned = off & placed.inside(placed.xy[:, ::-1])
            if turned.any():
                findings.note(OUTSIDE, path, f"{turned.sum()} of them would lie inside with x and y exchanged")
            _add(_NOT_IN_BOX, found, placed, placed.boxed & ~placed.in_box(placed.xy) & ~off, findings)
            _check_doubled(found, placed, findings)
    _check_unused(found, findings)


def misreading(found: ClickFile, boxes: Mapping[int, Xywh]) -> FaultKind | None:
    """The unit or order that all clicks of a file seem to be written in, if it is not ours; see `check_clicks`."""
    placed = _placed(found.clicks, found.images, boxes)
    return _misread_as(placed, ~placed.inside(placed.xy)) if placed.clicks else None


def _placed(clicks: list[Click], images: Mapping[int, ImageRecord], boxes: Mapping[int, Xywh]) -> _Placed:
    sized = [click for click in clicks if click.image_id in images and images[click.image_id].height]
    return _Placed(
        clicks=sized,
        xy=np.array([(click.x, click.y) for click in sized], np.float64).reshape(-1, 2),
        size=np.array(
            [(images[click.image_id].width, images[click.image_id].height) for click in sized], np.float64
        ).reshape(-1, 2),
        slack=np.array([[click.form.slack] for click in sized], np.float64).reshape(-1, 1),
        boxes=np.array([boxes.get(click.entry, (math.nan,) * 4) for click in sized], np.float64).reshape(-1, 4),
    )


def _misread_as(placed: _Placed, off: NDArray[np.bool_]) -> FaultKind | None:
    """The unit or order that all clicks seem to be written in, if it is not ours."""
    for limit, kind in ((1.0, FRACTIONS), (100.0, PERCENT)):
        # All of them in the first pixels of both axes, and hardly by chance.
        in_corner = placed.xy.min() >= 0 and placed.xy.max() <= limit
        if in_corner and float(np.log(np.minimum(1, limit / placed.size)).sum()) < _UNLIKELY:
            return kind
    return SWAPPED if _are_swapped(placed, off) else None


def _are_swapped(placed: _Placed, off: NDArray[np.bool_]) -> bool:
    """Whether exchanging x and y would bring (nearly) all clicks into their images, or into their own boxes.

    Images as high as wide tell nothing; there, boxes may.
    """
    turned, boxed = placed.xy[:, ::-1], placed.boxed
    if off.any() and placed.inside(turned).mean() > 0.98 > 1 - off.mean():
        return True
    now, then = placed.in_box(placed.xy)[boxed], placed.in_box(turned)[boxed]
    return bool(boxed.sum() >= 3 and now.mean() < 0.5 and then.mean() > 0.9)


def _add(kind: FaultKind, found: ClickFile, placed: _Placed, which: NDArray[np.bool_], findings: Findings) -> None:
    rows = np.flatnonzero(which)
    if not len(rows):
        return
    click, (width, height), box = (column[rows[0]] for column in (placed.clicks, placed.size, placed.boxes))
    example = f"{found.where(click)} = [{click.x:g}, {click.y:g}], its image is {width:g} x {height:g}"
    if kind is _NOT_IN_BOX:
        example += f"; box {shown_box(box)}"
    findings.add(kind, found.source, example, count=len(rows), of=len(placed.clicks))


def _check_doubled(found: ClickFile, placed: _Placed, findings: Findings) -> None:
    seen: set[tuple[int, int, float, float]] = set()
    for click in placed.clicks:
        key = (click.image_id, click.category_id, click.x, click.y)
        if key in seen:
            example = f"{found.where(click)} = [{click.x:g}, {click.y:g}]"
            findings.add(TWICE, found.source, example, of=len(placed.clicks))
        seen.add(key)


def _check_unused(found: ClickFile, findings: Findings) -> None:
    """Categories and images that no click is of."""
    used, pointed = {click.category_id for click in found.clicks}, Counter(click.image_id for click in found.clicks)
    for category in found.categories:
        if category.category_id not in used:
            example = f"{category.name!r} (id {category.category_id})"
            findings.add(_EMPTY_CATEGORY, found.source, example, of=len(found.categories))
    for image_id in found.images:
        if image_id not in pointed:
            findings.add(_EMPTY_IMAGE, found.source, f"image {shown(image_id)}", of=len(found.images))
