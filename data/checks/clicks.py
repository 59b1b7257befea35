"""Checks of clicks in any form: where they lie, and in which unit and order they seem to have been written."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sapnet_pipe.data.checks.boxes import MISREAD
from sapnet_pipe.data.checks.findings import Findings, Kind, shown
from sapnet_pipe.data.checks.raw_document import RawAnnotation, RawDocument
from sapnet_pipe.data.coco.document import is_number
from sapnet_pipe.data.points.click import Click, MalformedClick
from sapnet_pipe.data.points.forms import form_of

PERCENT = Kind(
    "points-in-percent",
    "points look like percent of the image, not pixels",
    "Multiply x by width / 100 and y by height / 100",
)
FRACTIONS = Kind(
    "points-as-fractions",
    "points look like fractions of the image, not pixels",
    "Multiply x by the width and y by the height",
)
SWAPPED = Kind("points-swapped", "points look like [y, x], not [x, y]", "Write x, the distance from the left, first")
OUTSIDE = Kind(
    "points-off-image",
    "points lie outside their image",
    "Give original pixels, 0 <= x < width and 0 <= y < height (a resized picture's points must be scaled back)",
)
MALFORMED = Kind("points-malformed", "points cannot be understood", "Give x and y as two numbers in pixels")
TWICE = Kind(
    "points-doubled", "points lie on another point of the same category", "Keep one point per object", error=False
)
NOT_IN_BOX = Kind(
    "points-beside-their-box", "points lie outside their own annotation's box", "Check points and boxes", error=False
)
NONE = Kind("no-points", "has no point in it", "Add point: [x, y], or make points with `sapnet-pipe points`")
UNPOINTED = Kind("annotations-without-point", "annotations have no point and are left out", "Add them", error=False)
_CROWDS = Kind("crowds", "annotations are crowds and are left out", "Nothing, if that is meant", error=False)
_EMPTY_CATEGORY = Kind(
    "categories-without-points", "categories have no point, so nothing can be learnt of them", "Drop them", error=False
)
_EMPTY_IMAGE = Kind("images-without-points", "images have no point and make no bags", "Drop them", error=False)

_UNLIKELY = math.log(1e-4)


class PlacedClick(NamedTuple):
    """A click, what it should lie in, and how an example names it."""

    x: float
    y: float
    slack: float
    height: int
    width: int
    image: object
    category: object
    where: str
    box_xywh: Sequence[float] | None


@dataclass(frozen=True)
class ClickSummary:
    """What a points file holds, for the summary and for the estimate.

    Attributes:
        forms: Number of clicks by the form they are written in.
        categories: Number of categories that a click is of.
        points_of_image: Number of usable clicks by image key; images without any are not in it.
    """

    forms: dict[str, int]
    categories: int
    points_of_image: dict[object, int]


def check_document_clicks(document: RawDocument, findings: Findings) -> ClickSummary:
    """All checks of the clicks of a JSON file, after those of its boxes (`check_boxes`)."""
    path, of = document.source, len(document.annotations)
    clicks: list[PlacedClick] = []
    misread = any(finding.kind.name in MISREAD for finding in findings.errors())
    forms: Counter[str] = Counter()
    pointed: Counter[object] = Counter()
    categories: set[object] = set()
    for annotation in document.annotations:
        if annotation.entry.get("iscrowd"):
            findings.add(_CROWDS, path, f"annotations[{annotation.index}]", of=of)
            continue
        click = _click(annotation, path, findings, of)
        if click is None:
            continue
        form = form_of(annotation.entry)
        forms[form.name if form else ""] += 1
        categories.add(str(annotation.entry.get("category_id")))
        if annotation.image is not None:
            pointed[annotation.image.key] += 1
        placed = _placed(annotation, click)
        # A click from a box of another convention is wrong, and why is known.
        if placed is not None and not (misread and click.x_field.startswith("bbox")):
            clicks.append(placed)
    check_places(path, clicks, findings)
    if not forms and not findings.has(MALFORMED.name):
        findings.add(NONE, path, f"{of} annotations")
    _check_unused(document, pointed, categories, findings)
    return ClickSummary(dict(forms), len(categories), dict(pointed))


def check_places(path: str | PathLike[str], clicks: list[PlacedClick], findings: Findings) -> None:
    """Unit, order and place of all clicks of a file together: what a single one cannot tell, all of them can."""
    if not clicks:
        return
    xy = np.array([(click.x, click.y) for click in clicks], np.float64)
    size = np.array([(click.width, click.height) for click in clicks], np.float64)
    slack = np.array([[click.slack] for click in clicks])
    off = ~_inside(xy, size, slack)
    for limit, kind in ((1.0, FRACTIONS), (100.0, PERCENT)):
        if _all_within(xy, size, limit):
            _report(kind, path, clicks, np.ones(len(clicks), bool), findings)
            return
    if _swapped(xy, size, slack, off, clicks):
        _report(SWAPPED, path, clicks, np.ones(len(clicks), bool), findings)
        return
    if off.any():
        _report(OUTSIDE, path, clicks, off, findings, _hint(xy, size, slack, off))
    beside = _has_box(clicks) & ~_in_box(xy, clicks) & ~off
    _report(NOT_IN_BOX, path, clicks, beside, findings, lambda click: f"box {shown(click.box_xywh)}")
    _check_doubled(path, clicks, findings)


def _click(annotation: RawAnnotation, path: PathLike[str], findings: Findings, of: int) -> Click | None:
    form = form_of(annotation.entry)
    try:
        click = form.click_of(annotation.entry) if form else None
    except MalformedClick as error:
        example = f"annotations[{annotation.index}].{error.field} = {shown(error.value)}, {error.problem}"
        findings.add(MALFORMED, path, example, of=of)
        return None
    if click is None:
        findings.add(UNPOINTED, path, f"annotations[{annotation.index}]", of=of)
    return click


def _placed(annotation: RawAnnotation, click: Click) -> PlacedClick | None:
    if annotation.size is None or annotation.image is None:
        return None
    entry, (height, width) = annotation.entry, annotation.size
    box = entry.get("true_bbox", None if click.x_field.startswith("bbox") else entry.get("bbox"))
    usable = type(box) is list and len(box) == 4 and all(map(is_number, box))
    return PlacedClick(
        click.x, click.y, click.slack, height, width, annotation.image.key, str(entry.get("category_id")),
        f"annotations[{annotation.index}].{click.x_field.partition('[')[0]}", box if usable else None,
    )  # fmt: skip


def _inside(xy: NDArray[np.float64], size: NDArray[np.float64], slack: NDArray[np.float64]) -> NDArray[np.bool_]:
    return np.asarray(((xy >= -slack) & (xy < size + slack)).all(axis=1))


def _all_within(xy: NDArray[np.float64], size: NDArray[np.float64], limit: float) -> bool:
    """Whether every click lies in the first `limit` pixels of both axes, and that can hardly be by chance."""
    if xy.min() < 0 or xy.max() > limit:
        return False
    return float(np.log(np.minimum(1, limit / size)).sum()) < _UNLIKELY


def _swapped(
    xy: NDArray[np.float64],
    size: NDArray[np.float64],
    slack: NDArray[np.float64],
    off: NDArray[np.bool_],
    clicks: list[PlacedClick],
) -> bool:
    """Whether exchanging x and y would bring (nearly) all clicks into their images, or into their own boxes.

    Images as high as wide tell nothing; there, boxes may.
    """
    turned = xy[:, ::-1]
    if off.any() and _inside(turned, size, slack).mean() > 0.98 > 1 - off.mean():
        return True
    boxed = _has_box(clicks)
    now, then = _in_box(xy, clicks)[boxed], _in_box(turned, clicks)[boxed]
    return bool(boxed.sum() >= 3 and now.mean() < 0.5 and then.mean() > 0.9)


def _has_box(clicks: list[PlacedClick]) -> NDArray[np.bool_]:
    return np.array([click.box_xywh is not None for click in clicks])


def _in_box(xy: NDArray[np.float64], clicks: list[PlacedClick]) -> NDArray[np.bool_]:
    """Within the own box and a pixel around it; False without one."""
    boxes = np.array([click.box_xywh or (0, 0, -3, -3) for click in clicks], np.float64)
    return np.asarray(((xy >= boxes[:, :2] - 1) & (xy <= boxes[:, :2] + boxes[:, 2:] + 1)).all(axis=1))


def _hint(
    xy: NDArray[np.float64], size: NDArray[np.float64], slack: NDArray[np.float64], off: NDArray[np.bool_]
) -> Callable[[PlacedClick], str]:
    turned = off & _inside(xy[:, ::-1], size, slack)
    said = f"; {int(turned.sum())} of them would lie inside with x and y exchanged" if turned.any() else ""
    return lambda _: said.removeprefix("; ")


def _report(
    kind: Kind,
    path: str | PathLike[str],
    clicks: list[PlacedClick],
    which: NDArray[np.bool_],
    findings: Findings,
    more: Callable[[PlacedClick], str] = lambda _: "",
) -> None:
    rows = np.flatnonzero(which)
    if len(rows):
        click = clicks[rows[0]]
        place = f"{click.where} = [{click.x:g}, {click.y:g}], its image is {click.width} x {click.height}"
        added = more(click)
        findings.add(kind, path, f"{place}; {added}" if added else place, count=len(rows), of=len(clicks))


def _check_doubled(path: str | PathLike[str], clicks: list[PlacedClick], findings: Findings) -> None:
    seen: set[tuple[object, object, float, float]] = set()
    for click in clicks:
        key = (click.image, click.category, click.x, click.y)
        if key in seen:
            findings.add(TWICE, path, f"{click.where} = [{click.x:g}, {click.y:g}]", of=len(clicks))
        seen.add(key)


def _check_unused(document: RawDocument, pointed: Counter[object], categories: set[object], findings: Findings) -> None:
    """Categories and images that no click is of."""
    for key, name in document.categories.items():
        if str(key) not in categories:
            findings.add(_EMPTY_CATEGORY, document.source, f"{name!r} (id {key})", of=len(document.categories))
    for image in document.images.values():
        if image.key not in pointed:
            findings.add(_EMPTY_IMAGE, document.source, f"image {shown(image.key)}", of=len(document.images))
