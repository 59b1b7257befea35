"""Which convention the boxes of a file follow: is `bbox` COCO's [x, y, width, height] in pixels?"""

from collections.abc import Callable, Sequence
from os import PathLike
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sapnet_pipe.data.boxes import box_iou, xywh_to_xyxy
from sapnet_pipe.data.checks.findings import CollectedFaults, Findings, shown_box
from sapnet_pipe.data.coco.document import CocoDocument, ImageRecord
from sapnet_pipe.data.coco.instances import Xywh, read_box
from sapnet_pipe.data.errors import FaultKind

_XYWH = "Write [x, y, width, height] in pixels"
_FLAT = FaultKind("boxes-flat", "boxes have no width or no height", f"{_XYWH}, or drop the annotation", error=False)
_ADVICE = f"{_XYWH}: nothing here trains on them, but other programs read them"
_OUTSIDE = FaultKind("boxes-off-image", "boxes reach outside their image", _ADVICE, error=False)
_CORNERS = FaultKind(
    "boxes-as-corners", "boxes look like [x1, y1, x2, y2], not [x, y, width, height]", _ADVICE, error=False
)
_CENTRES = FaultKind(
    "boxes-as-centres",
    "boxes look like [centre x, centre y, width, height], not [x, y, width, height]",
    _ADVICE,
    error=False,
)
_FRACTIONS = FaultKind("boxes-as-fractions", "boxes look like fractions of the image, not pixels", _ADVICE, error=False)
_CLICK_ADVICE = f"{_XYWH}: the click is taken from the middle of the box"
_SLACK = 1.5


class PlacedBox(NamedTuple):
    """A box of a file, its image, and the (4,) XYXY box of its mask where that is known."""

    where: str
    xywh: Xywh
    image: ImageRecord
    mask_xyxy: NDArray[np.float32] | None = None


def check_boxes(path: str | PathLike[str], boxes: Sequence[PlacedBox], findings: Findings) -> None:
    """Warn of the convention that the boxes of a file seem to follow, if it is not COCO's."""
    sound = [box for box in boxes if box.xywh[2] and box.xywh[3]]
    if len(sound) < len(boxes):
        flat = next(box for box in boxes if not box.xywh[2] or not box.xywh[3])
        findings.add(_FLAT, path, f"{flat.where} = {shown_box(flat.xywh)}", count=len(boxes) - len(sound))
    found = _convention(sound)
    if found is not None:
        _add(path, *found, sound, findings)


def check_boxes_of_clicks(document: CocoDocument, findings: Findings) -> tuple[dict[int, Xywh], bool]:
    """The boxes of a file of clicks: those that clicks are made of, and the others, which only `evaluate` looks at.

    Returns: the box of each annotation's object, by its number, and whether clicks are made of boxes that are not XYWH.
    """
    unread = CollectedFaults(document.source, findings, error=False)
    unsaid = CollectedFaults(document.source, Findings())
    own: dict[int, Xywh] = {}
    plain, clicked = list[PlacedBox](), list[PlacedBox]()
    for index, entry in document.entries():
        made_up, where = "true_bbox" in entry, f"annotations[{index}].bbox"
        box, image = read_box(where, entry.get("bbox"), unsaid if made_up else unread), document.image_of(entry)
        true_box = read_box(where, entry["true_bbox"], unsaid) if made_up else box
        if true_box is not None:
            own[index] = true_box
        if box is not None and image is not None and image.height and not (made_up and entry.get("point") is not None):
            (clicked if made_up else plain).append(PlacedBox(where, box, image))
    check_boxes(document.source, plain, findings)
    found = _convention([box for box in clicked if box.xywh[2] and box.xywh[3]])
    if found is None or found[0] is _OUTSIDE:  # made up around a click, they may reach outside
        return own, False
    kind = FaultKind(found[0].name, found[0].problem, _CLICK_ADVICE)
    _add(document.source, kind, found[1], clicked, findings)
    return own, True


def _add(
    path: str | PathLike[str], kind: FaultKind, which: NDArray[np.bool_], boxes: Sequence[PlacedBox], findings: Findings
) -> None:
    first = boxes[int(np.flatnonzero(which)[0])]
    image = first.image
    example = f"{first.where} = {shown_box(first.xywh)}, image {image.image_id} is {image.width} x {image.height}"
    findings.add(kind, path, example, count=int(which.sum()), of=len(boxes))


def _convention(placed: Sequence[PlacedBox]) -> tuple[FaultKind, NDArray[np.bool_]] | None:
    """What the boxes seem to be, and which of them show it; None if they are as they have to be."""
    if not placed:
        return None
    boxes = np.array([box.xywh for box in placed], np.float64)
    limits = np.array([(box.image.width, box.image.height) for box in placed], np.float64)
    everyone = np.ones(len(boxes), bool)
    if boxes.max() <= 1 and limits.min() > 8:
        return _FRACTIONS, everyone
    outside = ~_within(xywh_to_xyxy(boxes), limits)
    with_mask = np.array([box.mask_xyxy is not None for box in placed])
    if with_mask.any():
        truth = np.array([box.mask_xyxy for box in placed if box.mask_xyxy is not None])
        fits = {kind: float(np.median(box_iou(read(boxes[with_mask]), truth))) for kind, read in _READINGS.items()}
        best = max(fits, key=lambda kind: fits[kind])
        if best is not None and fits[best] > 0.8 > fits[None]:
            return best, everyone
    elif _within(boxes, limits).mean() > 0.98 and outside.mean() > 0.05:
        return _CORNERS, everyone
    return (_OUTSIDE, outside) if outside.any() else None


def _xyxy(boxes: NDArray[np.float64]) -> NDArray[np.floating]:
    return boxes


def _cxcywh(boxes: NDArray[np.float64]) -> NDArray[np.floating]:
    return np.concatenate([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], axis=1)


_READINGS: dict[FaultKind | None, Callable[[NDArray[np.float64]], NDArray[np.floating]]] = {
    None: xywh_to_xyxy, _CORNERS: _xyxy, _CENTRES: _cxcywh
}  # fmt: skip


def _within(xyxy: NDArray[np.floating], limits: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Corners in order, and inside the image except for a pixel of rounding."""
    ordered = (xyxy[:, 2:] > xyxy[:, :2]).all(axis=1)
    return np.asarray(ordered & (xyxy[:, :2] >= -_SLACK).all(axis=1) & (xyxy[:, 2:] <= limits + _SLACK).all(axis=1))
