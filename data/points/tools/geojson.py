"""GeoJSON of one photograph, as QuPath writes it: features of Point or MultiPoint, in pixels.

Coordinates lie in a corner frame, as ours. The class is `classification.name`, or a property of a usual name; the
photograph that of the file's name, unless a property names it. Other geometries are left out and counted.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from sapnet_pipe.data.points.click_file import ClickForm, PointsFile
from sapnet_pipe.data.points.marked_photos import Mark, MarkedPhoto

FORM = ClickForm("GeoJSON", slack=1.0)
_CLASS = ("class", "label", "category", "species", "name")
_IMAGE = ("image", "file_name", "filename", "image_path")


def recognises(file: PointsFile) -> bool:
    """A FeatureCollection, a feature, or a list of features."""
    return bool(_features(file.json_or_none))


def photos(file: PointsFile, dropped: Counter[str]) -> Iterator[MarkedPhoto]:
    """The photograph of each feature, those of one photograph one after the other."""
    own = file.photographs.photograph_of(file.path) or file.path.stem
    for number, feature in enumerate(_features(file.json)):
        properties, geometry = feature.get("properties") or {}, feature.get("geometry") or {}
        where = f"features[{number}]"
        photo = MarkedPhoto(next((properties[key] for key in _IMAGE if key in properties), own), where)
        if geometry.get("type") == "Point":
            spots = [geometry["coordinates"]]
        elif geometry.get("type") == "MultiPoint":
            spots = geometry["coordinates"]
        else:
            spots = []
            dropped["shapes_that_are_not_points"] += 1
        photo.marks.extend(Mark(spot[0], spot[1], _class(properties), where) for spot in spots)
        yield photo


def _features(root: Any) -> list[dict[str, Any]]:
    if isinstance(root, dict) and root.get("type") == "FeatureCollection":
        root = root.get("features")
    features = root if isinstance(root, list) else [root]
    return [one for one in features if isinstance(one, dict) and one.get("type") == "Feature"]


def _class(properties: dict[str, Any]) -> str | None:
    classification = properties.get("classification")
    named = classification.get("name") if isinstance(classification, dict) else classification
    value = named or next((properties[key] for key in _CLASS if properties.get(key) is not None), None)
    return None if value is None else str(value)
