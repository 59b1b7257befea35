"""FiftyOne: the samples.json of a FiftyOneDataset with `Keypoints`, in fractions of width and height.

A keypoint of several points is one object: of its points the one nearest their mean is taken, the others are counted.
"""

import math
from collections import Counter
from collections.abc import Iterator
from typing import Any

from sapnet_pipe.data.points.click_file import ClickForm, PointsFile
from sapnet_pipe.data.points.marked_photos import Mark, MarkedPhoto, declared_size

FORM = ClickForm("FiftyOne", slack=1.0)


def recognises(file: PointsFile) -> bool:
    """An object with `samples` that have a `filepath`."""
    root = file.json_or_none
    samples = root.get("samples") if isinstance(root, dict) else None
    return isinstance(samples, list) and bool(samples) and isinstance(samples[0], dict) and "filepath" in samples[0]


def photos(file: PointsFile, dropped: Counter[str]) -> Iterator[MarkedPhoto]:
    """All samples, also those without a keypoint."""
    for number, sample in enumerate(file.json["samples"]):
        where, metadata = f"samples[{number}]", sample.get("metadata") or {}
        size = declared_size(metadata.get("height"), metadata.get("width"))
        photo = MarkedPhoto(sample["filepath"], f"{where}.filepath", size=size, unit=1.0)
        for field, keypoint in _keypoints(sample):
            points = [spot for spot in keypoint["points"] if all(map(_is_known, spot))]
            if not points:
                dropped["without_point"] += 1
                continue
            mean = [sum(axis) / len(points) for axis in zip(*points, strict=True)]
            x, y = min(points, key=lambda spot: math.dist(spot, mean))
            photo.marks.append(Mark(x, y, keypoint.get("label"), f"{where}.{field}", len(points) - 1))
        yield photo


def _keypoints(sample: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for field, value in sample.items():
        if isinstance(value, dict) and isinstance(value.get("keypoints"), list):
            yield from ((f"{field}[{place}]", keypoint) for place, keypoint in enumerate(value["keypoints"]))
        elif isinstance(value, dict) and value.get("_cls") == "Keypoint":
            yield field, value


def _is_known(value: Any) -> bool:
    """FiftyOne writes NaN, as a number or as text, for points that were not given."""
    return isinstance(value, (int, float)) and math.isfinite(value)
