"""Which form a JSON annotation's click has."""

from collections.abc import Callable
from typing import Any, NamedTuple

from sapnet_pipe.data.points import coco_point, keypoints, p2bnet, pointsup
from sapnet_pipe.data.points.click import Click


class Form(NamedTuple):
    """One of the JSON forms: its name for people, and its reader."""

    name: str
    click_of: Callable[[dict[str, Any]], Click | None]


_COARSE = Form("P2BNet/SAPNet coarse file", p2bnet.click_of)
_POINT = Form("COCO with point", coco_point.click_of)
_POINTSUP = Form("PointSup", pointsup.click_of)
_KEYPOINTS = Form("COCO keypoints", keypoints.click_of)


def form_of(entry: dict[str, Any]) -> Form | None:
    """The form of an annotation's click by its keys; None if it has none of them."""
    if "true_bbox" in entry:
        return _COARSE
    if "point" in entry:
        return _POINT
    if "point_coords" in entry:
        return _POINTSUP
    return _KEYPOINTS if "keypoints" in entry else None
