"""Coarse files of P2BNet and SAPNet: the click in `point`, the real box moved to `true_bbox`, a made-up `bbox`.

Files in which only the boxes are left have the click at the centre of the made-up box. `true_bbox` is never read: it is
the truth. The tool that makes these files shakes each click by up to half a pixel and does not clip it, so a click may
lie half a pixel outside the image; it is moved to the border.
"""

from typing import Any

from sapnet_pipe.data.coco.document import is_number
from sapnet_pipe.data.points.click import Click, MalformedClick, pair

_SLACK = 0.5


def click_of(entry: dict[str, Any]) -> Click | None:
    """The annotation's `point`, else the centre of its made-up `bbox`; None if it has neither."""
    if entry.get("point") is not None:
        return Click(*pair(entry["point"], "point"), "point[0]", "point[1]", slack=_SLACK)
    box = entry.get("bbox")
    if box is None:
        return None
    if type(box) is not list or len(box) != 4 or not all(map(is_number, box)):
        raise MalformedClick("bbox", box, "which is not [x, y, width, height]", "Give four finite numbers, or a point")
    return Click(box[0] + box[2] / 2, box[1] + box[3] / 2, "bbox[0]", "bbox[1]", slack=_SLACK)
