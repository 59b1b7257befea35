"""COCO keypoints: ``keypoints: [x1, y1, v1, x2, ...]``, v > 0 where the keypoint is labelled.

Of the labelled keypoints we take the one nearest their mean: unlike the mean itself it lies on the object. Keypoints
are pixel indices, so half a pixel is added.
"""

from typing import Any

from sapnet_pipe.data.coco.document import is_number
from sapnet_pipe.data.points.click import Click, MalformedClick


def click_of(entry: dict[str, Any]) -> Click | None:
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
    return Click(x, y, f"keypoints[{i}]", f"keypoints[{i + 1}]", shift=0.5)
