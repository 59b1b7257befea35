"""VGG Image Annotator 1 and 2: its project, its JSON and its CSV, with regions of the shape `point`.

The class is the region's attribute of a usual name, else its only one. Other shapes are left out and counted.
"""

import csv
import io
import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

from sapnet_pipe.data.points.click_file import ClickForm, PointsFile
from sapnet_pipe.data.points.marked_photos import Mark, MarkedPhoto

FORM = ClickForm("VIA", slack=1.0)
_CLASS = ("class", "label", "category", "species", "type", "name")
_CSV_MARK = b"region_shape_attributes"


def recognises(file: PointsFile) -> bool:
    """A table with the column of shapes, a project, or an object of objects with `regions`."""
    if _CSV_MARK in file.content[:400].splitlines()[0] if file.content.strip() else False:
        return True
    root = file.json_or_none
    return isinstance(root, dict) and ("_via_img_metadata" in root or _is_metadata(root))


def photos(file: PointsFile, dropped: Counter[str]) -> Iterator[MarkedPhoto]:
    """All photographs, also those without a region."""
    if _CSV_MARK in file.content[:400]:
        yield from _of_table(file, dropped)
        return
    root = file.json
    for key, entry in root.get("_via_img_metadata", root).items():
        regions = entry.get("regions", [])
        listed = list(regions.values() if isinstance(regions, dict) else regions)
        photo = MarkedPhoto(entry["filename"], f"{key}.filename")
        for number, region in enumerate(listed):
            where = f"{entry['filename']}, regions[{number}]"
            photo.marks.extend(_mark(region["shape_attributes"], region.get("region_attributes"), where, dropped))
        yield photo


def _of_table(file: PointsFile, dropped: Counter[str]) -> Iterator[MarkedPhoto]:
    reader = csv.DictReader(io.StringIO(file.content.decode("utf-8-sig"), newline=""))
    for row in reader:
        where = f"line {reader.line_num}"
        photo = MarkedPhoto(row.get("filename") or row.get("#filename"), f"{where}, filename")
        shape = json.loads(row["region_shape_attributes"] or "{}")
        if shape:
            attributes = json.loads(row["region_attributes"] or "{}")
            photo.marks.extend(_mark(shape, attributes, where, dropped))
        yield photo


def _mark(shape: dict[str, Any], attributes: Any, where: str, dropped: Counter[str]) -> Iterator[Mark]:
    if shape.get("name") != "point":
        dropped["shapes_that_are_not_points"] += 1
        return
    yield Mark(shape["cx"], shape["cy"], _class(attributes or {}), where)


def _class(attributes: dict[str, Any]) -> str | None:
    key = next((name for name in _CLASS if name in attributes), None)
    if key is None and len(attributes) == 1:
        key = next(iter(attributes))
    value = attributes.get(key) if key is not None else None
    if isinstance(value, dict):  # check boxes
        value = next((name for name, checked in value.items() if checked), None)
    return None if value is None else str(value)


def _is_metadata(root: dict[str, Any]) -> bool:
    return bool(root) and all(isinstance(one, dict) and {"filename", "regions"} <= one.keys() for one in root.values())
