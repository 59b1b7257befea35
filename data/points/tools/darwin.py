"""Darwin (V7) JSON 2.0: a file a photograph, whose annotations with a `keypoint` are objects.

Annotations of other kinds are left out and counted.
"""

from collections import Counter
from collections.abc import Iterator

from sapnet_pipe.data.points.click_file import ClickForm, PointsFile
from sapnet_pipe.data.points.marked_photos import Mark, MarkedPhoto, declared_size

FORM = ClickForm("Darwin", slack=1.0)


def recognises(file: PointsFile) -> bool:
    """An object with `item` and `annotations`."""
    root = file.json_or_none
    return isinstance(root, dict) and isinstance(root.get("item"), dict) and "annotations" in root


def photos(file: PointsFile, dropped: Counter[str]) -> Iterator[MarkedPhoto]:
    """The photograph of the file's first slot."""
    item = file.json["item"]
    slot = (item.get("slots") or [{}])[0]
    photo = MarkedPhoto(item["name"], "item.name", size=declared_size(slot.get("height"), slot.get("width")))
    for number, annotation in enumerate(file.json["annotations"]):
        if "keypoint" not in annotation:
            dropped["shapes_that_are_not_points"] += 1
            continue
        spot = annotation["keypoint"]
        photo.marks.append(Mark(spot["x"], spot["y"], annotation.get("name"), f"annotations[{number}]"))
    yield photo
