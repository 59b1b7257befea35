"""Our own form: COCO JSON whose annotations carry ``point: [x, y]`` in original pixels."""

from typing import Any

from sapnet_pipe.data.points.click import Click, pair


def click_of(entry: dict[str, Any]) -> Click | None:
    """The annotation's `point`; None if it is null."""
    if entry["point"] is None:
        return None
    return Click(*pair(entry["point"], "point"), "point[0]", "point[1]")
