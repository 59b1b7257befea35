"""PointSup (Detectron2): ``point_coords: [[x, y], ...]`` with ``point_labels`` 1 on the object, 0 beside it.

One click is what we work with: the first positive one.
"""

from typing import Any

from sapnet_pipe.data.points.click import Click, MalformedClick, pair


def click_of(entry: dict[str, Any]) -> Click | None:
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
            field = f"point_coords[{index}]"
            return Click(*pair(point, field), f"{field}[0]", f"{field}[1]")
    return None
