"""DotDotGoose: its project, a JSON file with the suffix .pnt; `points` by photograph and class.

Coordinates lie in a corner frame, as ours.
"""

from collections import Counter
from collections.abc import Iterator

from sapnet_pipe.data.points.click_file import ClickForm, PointsFile
from sapnet_pipe.data.points.marked_photos import Mark, MarkedPhoto

FORM = ClickForm("DotDotGoose project", slack=1.0)


def recognises(file: PointsFile) -> bool:
    """An object with `classes` and `points` by photograph."""
    root = file.json_or_none
    return isinstance(root, dict) and isinstance(root.get("points"), dict) and "classes" in root


def photos(file: PointsFile, dropped: Counter[str]) -> Iterator[MarkedPhoto]:
    """All photographs that were opened."""
    for name, classes in file.json["points"].items():
        photo = MarkedPhoto(name, f"points.{name}")
        for category, points in classes.items():
            marks = (Mark(p["x"], p["y"], category, f"{name}, {category}[{i}]") for i, p in enumerate(points))
            photo.marks.extend(marks)
        yield photo
