"""CVAT for images 1.1: XML with an `image` element a photograph and `points` in it, each pair an object of its own.

Other shapes, and the tracks of videos, are left out and counted. Coordinates are continuous, as ours.
"""

from collections import Counter
from collections.abc import Iterator

from sapnet_pipe.data.points.click_file import ClickForm, PointsFile
from sapnet_pipe.data.points.marked_photos import Mark, MarkedPhoto, declared_size
from sapnet_pipe.data.points.tools.xml_file import xml_root

FORM = ClickForm("CVAT XML", slack=1.0)


def recognises(file: PointsFile) -> bool:
    """By the root element, `annotations`."""
    root = xml_root(file)
    return root is not None and root.tag == "annotations"


def photos(file: PointsFile, dropped: Counter[str]) -> Iterator[MarkedPhoto]:
    """All photographs, also those without a point."""
    root = xml_root(file)
    if root is None:
        raise ValueError("no XML")
    dropped["tracks_of_videos"] += len(root.findall("track"))
    for image in root.findall("image"):
        where = f"image {image.get('id')}"
        size = declared_size(image.get("height"), image.get("width"))
        photo = MarkedPhoto(image.get("name"), f"{where}, name", size=size)
        for number, shape in enumerate(image):
            if shape.tag != "points":
                dropped["shapes_that_are_not_points"] += shape.tag != "tag"
                continue
            for pair in (shape.get("points") or "").split(";"):
                x, y = (float(value) for value in pair.split(","))
                photo.marks.append(Mark(x, y, shape.get("label"), f"{where}, points[{number}]"))
        yield photo
