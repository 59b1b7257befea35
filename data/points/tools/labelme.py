"""labelme: a JSON file a photograph, whose `shapes` of type point are objects. Other shapes are left out and counted.

Coordinates are continuous, (0, 0) in the upper left corner of the first pixel, as ours.
"""

from collections import Counter
from collections.abc import Iterator

from sapnet_pipe.data.points.click_file import ClickForm, PointsFile
from sapnet_pipe.data.points.marked_photos import Mark, MarkedPhoto, declared_size

FORM = ClickForm("labelme", slack=1.0)


def recognises(file: PointsFile) -> bool:
    """An object with `shapes` and `imagePath`."""
    return isinstance(file.json_or_none, dict) and {"shapes", "imagePath"} <= file.json_or_none.keys()


def photos(file: PointsFile, dropped: Counter[str]) -> Iterator[MarkedPhoto]:
    """The photograph of the file."""
    root = file.json
    size = declared_size(root.get("imageHeight"), root.get("imageWidth"))
    photo = MarkedPhoto(root["imagePath"], "imagePath", size=size)
    for number, shape in enumerate(root["shapes"]):
        if shape.get("shape_type") != "point":
            dropped["shapes_that_are_not_points"] += 1
            continue
        x, y = shape["points"][0]
        photo.marks.append(Mark(x, y, shape.get("label"), f"shapes[{number}]"))
    yield photo
