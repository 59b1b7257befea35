"""The forms in which an annotation of a COCO-like JSON file may hold its click.

A form is one entry of `FORMS`, told by a key: the first form whose key an annotation has is its form.

    true_bbox     coarse files of P2BNet and SAPNet: the click in `point`, the real box moved to `true_bbox` (never
                  read: it is the truth), a made-up `bbox`. Files in which only the boxes are left have the click at the
                  centre of the made-up one. The tool that makes them shakes each click by up to half a pixel and does
                  not clip it, so it may lie that far outside the image; it is moved to the border.
    point         our own: ``point: [x, y]`` in original pixels.
    point_coords  PointSup (Detectron2): ``[[x, y], ...]`` with `point_labels` 1 on the object, 0 beside it. One click
                  is what we work with: the first on the object.
    keypoints     COCO: ``[x1, y1, v1, x2, ...]``, v > 0 where the keypoint is labelled. Of these we take the one
                  nearest their mean: unlike the mean itself it lies on the object. Keypoints are pixel indices, so
                  half a pixel is added.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from sapnet_pipe.data.coco.document import is_number
from sapnet_pipe.data.points.click_file import ClickForm


class Spot(NamedTuple):
    """x and y as an annotation gives them: the numbers `place` and `place` + 1 of the list `field`.

    Attributes:
        further: How many more points the annotation has, which are not used.
    """

    x: float
    y: float
    field: str
    place: int = 0
    further: int = 0


@dataclass(frozen=True, kw_only=True)
class JsonForm(ClickForm):
    """One of the forms.

    Attributes:
        key: The annotation's key by which the form is told.
        spot_of: The click of such an annotation, None if it has none; raises MalformedClick.
    """

    key: str
    spot_of: Callable[[dict[str, Any]], Spot | None]


class MalformedClick(ValueError):  # noqa: N818
    """A click that cannot be understood; the caller adds the file and the entry."""

    def __init__(self, field: str, value: Any, problem: str, hint: str) -> None:
        self.field, self.value, self.problem, self.hint = field, value, problem, hint
        super().__init__(f"{field} = {value!r}, {problem}. {hint}.")


def form_of(entry: dict[str, Any]) -> JsonForm | None:
    """The form of an annotation's click; None if it has none of the keys."""
    for form in FORMS:
        if form.key in entry:
            return form
    return None


def _coarse(entry: dict[str, Any]) -> Spot | None:
    """The annotation's `point`, else the centre of its made-up `bbox`; None if it has neither."""
    if entry.get("point") is not None:
        return _pair(entry["point"], "point")
    box = entry.get("bbox")
    if box is None:
        return None
    if type(box) is not list or len(box) != 4 or not all(map(is_number, box)):
        raise MalformedClick("bbox", box, "which is not [x, y, width, height]", "Give four finite numbers, or a point")
    return Spot(box[0] + box[2] / 2, box[1] + box[3] / 2, "bbox")


def _point(entry: dict[str, Any]) -> Spot | None:
    return None if entry["point"] is None else _pair(entry["point"], "point")


def _pointsup(entry: dict[str, Any]) -> Spot | None:
    """The first point on the object; None if there is none. Without `point_labels` every point is on the object."""
    points = entry["point_coords"]
    if points is None:
        return None
    if type(points) is not list:
        raise MalformedClick("point_coords", points, "which is not a list of points", "Give [[x, y], ...]")
    labels = entry.get("point_labels")
    if labels is None:
        labels = [1] * len(points)
    if type(labels) is not list or len(labels) != len(points):
        problem = f"which is not a label for each of {len(points)} points"
        raise MalformedClick("point_labels", labels, problem, "Give 1 or 0 for every point")
    for index, (point, label) in enumerate(zip(points, labels, strict=True)):
        if type(label) not in (int, bool) or label not in (0, 1):
            field = f"point_labels[{index}]"
            raise MalformedClick(field, label, "which is neither 0 nor 1", "Give 1 on the object, 0 beside it")
        if label:
            return _pair(point, f"point_coords[{index}]")._replace(further=len(points) - 1)
    return None


def _keypoints(entry: dict[str, Any]) -> Spot | None:
    """The labelled keypoint nearest the mean of the labelled ones (the first of equals); None if none is labelled."""
    flat = entry["keypoints"]
    if flat is None:
        return None
    if type(flat) is not list or len(flat) % 3:
        raise MalformedClick("keypoints", flat, "which is not a list of x, y, v", "Give three numbers a keypoint")
    for index, value in enumerate(flat):
        if not is_number(value):
            hint = "Give x, y and v of every keypoint"
            raise MalformedClick(f"keypoints[{index}]", value, "which is not a finite number", hint)
    labelled = [(flat[i], flat[i + 1], i) for i in range(0, len(flat), 3) if flat[i + 2] > 0]
    if not labelled:
        return None
    mean_x = sum(x for x, _, _ in labelled) / len(labelled)
    mean_y = sum(y for _, y, _ in labelled) / len(labelled)
    x, y, i = min(labelled, key=lambda point: (point[0] - mean_x) ** 2 + (point[1] - mean_y) ** 2)
    return Spot(x, y, "keypoints", i, len(labelled) - 1)


FORMS = (
    JsonForm(name="P2BNet/SAPNet coarse file", key="true_bbox", spot_of=_coarse, slack=0.5),
    JsonForm(name="COCO with point", key="point", spot_of=_point),
    JsonForm(name="PointSup", key="point_coords", spot_of=_pointsup),
    JsonForm(name="COCO keypoints", key="keypoints", spot_of=_keypoints, shift=0.5),
)


def _pair(value: Any, field: str) -> Spot:
    """Two finite numbers [x, y]; MalformedClick otherwise."""
    if type(value) is not list or len(value) != 2:
        raise MalformedClick(field, _shown(value), "which is not [x, y]", "Give two numbers in original pixels")
    for index, number in enumerate(value):
        if not is_number(number):
            hint = "Give x and y in original pixels"
            raise MalformedClick(f"{field}[{index}]", _shown(number), "which is not a finite number", hint)
    return Spot(value[0], value[1], field)


def _shown(value: Any) -> Any:
    """A text in quotes: "3" is not 3, and must not look like it."""
    return repr(value) if isinstance(value, str) else value
