"""Checks of `bbox`: whether it is COCO's [x, y, width, height] in pixels."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from os import PathLike

import numpy as np
from numpy.typing import NDArray

from sapnet_pipe.data.checks.findings import Findings, Kind, shown
from sapnet_pipe.data.checks.raw_document import RawAnnotation
from sapnet_pipe.data.coco.document import is_number

_XYWH = "Write [x, y, width, height] in pixels"
MALFORMED = Kind("boxes-malformed", "boxes are not four numbers", f"{_XYWH}, or no bbox")
NEGATIVE = Kind("boxes-negative", "boxes have a negative width or height", f"{_XYWH}, the smaller x and y first")
FLAT = Kind("boxes-flat", "boxes have no width or no height", f"{_XYWH}, or drop the annotation", error=False)
_CORNERS = "boxes look like [x1, y1, x2, y2], not [x, y, width, height]"
_CENTRES = "boxes look like [centre x, centre y, width, height], not [x, y, width, height]"
_FRACTIONS = "boxes look like fractions of the image, not pixels"
_OUTSIDE = "boxes reach outside their image"
_NAMES = {_CORNERS: "boxes-as-corners", _CENTRES: "boxes-as-centres", _FRACTIONS: "boxes-as-fractions"}
MISREAD = frozenset(_NAMES.values())
_ADVICE = f"{_XYWH}: nothing here trains on them, but other programs read them"
_CLICKS = f"{_XYWH}: the click is taken from the middle of the box"
_SLACK = 1.5


def check_boxes(
    path: str | PathLike[str],
    annotations: list[RawAnnotation],
    findings: Findings,
    *,
    field: str = "bbox",
    mask_box_xyxy: Mapping[int, NDArray[np.float32]] | None = None,
    refused: bool = True,
    clicks: bool = False,
) -> None:
    """Judge the boxes of a file one by one, and then all together: which convention do they follow?

    Args:
        field: Key of the box.
        mask_box_xyxy: Box of the mask by annotation index, where it is known: the best judge of the convention.
        refused: Whether the reader of the file refuses malformed boxes.
        clicks: Whether clicks are made of these boxes, so that a wrong convention must be fixed. Such boxes are made
            up around a click and may reach outside the image.
    """
    given = [a for a in annotations if a.entry.get(field) is not None]
    sound = [a for a in given if _is_sound(path, a, field, refused or clicks, findings)]
    sized = [a for a in sound if a.size is not None]
    if not sized:
        return
    boxes = np.array([a.entry[field] for a in sized], np.float64)
    limits = np.array([a.size[::-1] for a in sized if a.size is not None], np.float64)
    problem, which = _convention(boxes, limits, sized, mask_box_xyxy or {})
    rows = np.flatnonzero(which)
    if not len(rows) or (clicks and problem == _OUTSIDE):
        return
    first = sized[rows[0]]
    kind = Kind(_NAMES.get(problem, "boxes-off-image"), problem, _CLICKS if clicks else _ADVICE, clicks)
    example = f"annotations[{first.index}].{field} = {shown(first.entry[field])}, {first.image}"
    findings.add(kind, path, example, count=len(rows), of=len(sized))


def _is_sound(
    path: str | PathLike[str], annotation: RawAnnotation, field: str, error: bool, findings: Findings
) -> bool:
    box = annotation.entry[field]
    example = f"annotations[{annotation.index}].{field} = {shown(box)}"
    if type(box) is not list or len(box) != 4 or not all(map(is_number, box)):
        findings.add(replace(MALFORMED, error=error), path, example)
    elif box[2] < 0 or box[3] < 0:
        findings.add(replace(NEGATIVE, error=error), path, example)
    elif not box[2] or not box[3]:
        findings.add(FLAT, path, example)
    else:
        return True
    return False


def _convention(
    boxes: NDArray[np.float64],
    limits: NDArray[np.float64],
    annotations: list[RawAnnotation],
    mask_boxes: Mapping[int, NDArray[np.float32]],
) -> tuple[str, NDArray[np.bool_]]:
    """What the boxes seem to be, and which of them show it (none if they are as they have to be)."""
    everyone = np.ones(len(boxes), bool)
    if boxes.max() <= 1 and limits.min() > 8:
        return _FRACTIONS, everyone
    outside = ~_within(_xywh(boxes), limits)
    with_mask = np.array([a.index in mask_boxes for a in annotations])
    if with_mask.any():
        truth = np.array([mask_boxes[a.index] for a in annotations if a.index in mask_boxes], np.float64)
        fits = {name: float(np.median(_iou(reading(boxes[with_mask]), truth))) for name, reading in _READINGS.items()}
        best = max(fits, key=lambda name: fits[name])
        if best and fits[best] > 0.8 > fits[""]:
            return best, everyone
        return _OUTSIDE, outside
    if _within(_xyxy(boxes), limits).mean() > 0.98 and outside.mean() > 0.05:
        return _CORNERS, everyone
    return _OUTSIDE, outside


def _xywh(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


def _xyxy(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    return boxes


def _cxcywh(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.concatenate([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], axis=1)


_READINGS: dict[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    "": _xywh, _CORNERS: _xyxy, _CENTRES: _cxcywh
}  # fmt: skip


def _within(xyxy: NDArray[np.float64], limits: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Corners in order, and inside the image but for a pixel of rounding."""
    ordered = (xyxy[:, 2:] > xyxy[:, :2]).all(axis=1)
    return np.asarray(ordered & (xyxy[:, :2] >= -_SLACK).all(axis=1) & (xyxy[:, 2:] <= limits + _SLACK).all(axis=1))


def _iou(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Row by row, of XYXY boxes."""
    inner = np.clip(np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2]), 0, None).prod(axis=1)
    sizes = [np.clip(c[:, 2:] - c[:, :2], 0, None).prod(axis=1) for c in (a, b)]
    return np.asarray(inner / np.maximum(sizes[0] + sizes[1] - inner, 1e-9))
