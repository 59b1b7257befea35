"""A COCO-like JSON file read as far as it can be, with every fault of its lists, ids and references counted."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sapnet_pipe.data.checks.findings import Findings, Kind, shown
from sapnet_pipe.data.coco.document import MAX_ID, MAX_SIDE, check_file_name
from sapnet_pipe.data.errors import UserError
from sapnet_pipe.data.files import read_json

UNREADABLE = Kind("unreadable-file", "cannot be read", "Give a COCO JSON file (or CSV of clicks)")
_NO_LIST = Kind("missing-list", "lists of a COCO file are missing or empty", "Add images, categories and annotations")
_NO_OBJECT = Kind("entries-not-objects", "entries are no JSON objects", "Give an object with an 'id'")
_IMAGE_ID = Kind("image-ids", "images have no whole number as id", "Number the images, in annotations[].image_id too")
_IMAGE_TWICE = Kind("image-ids-clash", "images have the id of another image", "Give every image its own id")
_SIZE = Kind("image-sizes", "images have no whole width and height", "Give width and height in pixels")
_NO_NAME = Kind("file-names", "images have no usable file_name", "Give the name relative to the image folder")
_LVIS_NAME = Kind(
    "file-names-lvis",
    "images have a coco_url but no file_name, as in LVIS",
    "Add file_name: the part of coco_url behind its last slash (or last two, for one folder of train and val)",
)
_SAME_FILE = Kind("file-names-shared", "images share their photograph with another entry", "Join them", error=False)
_CATEGORY_ID = Kind("category-ids", "categories have no whole number as id", "Number the categories")
_CATEGORY_TWICE = Kind("category-ids-clash", "categories have the id of another", "Give every category its own id")
_CATEGORY_NAME = Kind("category-names", "categories have no name", "Give the category's name")
SAME_NAME = Kind(
    "category-names-shared",
    "categories have the name of another, but for capitals and blanks",
    "Join them if they are the same kind of object",
    error=False,
)
_ID = Kind("annotation-ids", "annotations have no whole number as id", "Number the annotations")
_TWICE = Kind("annotation-ids-clash", "annotations have the id of another", "Give every annotation its own id")
_NO_IMAGE = Kind("unknown-images", "annotations are of images that are not listed", "Add the images, or drop them")
_NO_CATEGORY = Kind(
    "unknown-categories", "annotations are of categories that are not listed", "Add the categories, or correct the ids"
)
_CROWD = Kind("iscrowd", "annotations have an iscrowd that is neither 0 nor 1", "Give 0 or 1")


@dataclass(frozen=True, slots=True)
class RawImage:
    """An image entry; what the file does not give, or not as it has to be, is None."""

    key: int | str
    file_name: str | None
    height: int | None
    width: int | None

    def __str__(self) -> str:
        return f"image {self.key} is {self.width} x {self.height}"


@dataclass(frozen=True, slots=True)
class RawAnnotation:
    """An annotation entry with its place in the file and its image, if that is known."""

    index: int
    entry: dict[str, Any]
    image: RawImage | None

    @property
    def size(self) -> tuple[int, int] | None:
        """(height, width) of its image, if known."""
        image = self.image
        return None if image is None or image.height is None or image.width is None else (image.height, image.width)


@dataclass(frozen=True)
class RawDocument:
    """What could be read: images and category names by id, and all annotations that are JSON objects."""

    source: Path
    images: dict[int | str, RawImage]
    categories: dict[int, str]
    annotations: list[RawAnnotation]


def read_raw(path: Path, findings: Findings) -> RawDocument | None:
    """Read `path`; None if there is nothing in it to look at."""
    try:
        root = read_json(path)
    except UserError as error:
        findings.add(UNREADABLE, path, f"{error.field} = {error.value}, {error.problem}")
        return None
    if not isinstance(root, dict):
        findings.add(UNREADABLE, path, f"its content is a {type(root).__name__}, not an object")
        return None
    images = _images(path, _entries(path, root, "images", findings), findings)
    categories = _categories(path, _entries(path, root, "categories", findings), findings)
    annotations = [
        RawAnnotation(index, entry, _known(images, entry.get("image_id")))
        for index, entry in _entries(path, root, "annotations", findings)
    ]
    _check_references(path, annotations, categories, findings)
    return RawDocument(path, images, categories, annotations)


def check_same_names(path: Path, names: list[str], findings: Findings) -> None:
    """Categories that a typing error has split."""
    folded: dict[str, str] = {}
    for name in names:
        first = folded.setdefault(" ".join(name.split()).casefold(), name)
        if first is not name:
            findings.add(SAME_NAME, path, f"{name!r} and {first!r}", of=len(names))


def _entries(path: Path, root: dict[str, Any], key: str, findings: Findings) -> list[tuple[int, dict[str, Any]]]:
    entries = root.get(key)
    if not isinstance(entries, list) or not entries:
        findings.add(_NO_LIST, path, f"{key} = {shown(entries)}")
        return []
    for index, entry in enumerate(entries):
        if type(entry) is not dict:
            findings.add(_NO_OBJECT, path, f"{key}[{index}] = {shown(entry)}")
    return [(index, entry) for index, entry in enumerate(entries) if type(entry) is dict]


def _images(path: Path, entries: list[tuple[int, dict[str, Any]]], findings: Findings) -> dict[int | str, RawImage]:
    images: dict[int | str, RawImage] = {}
    names: Counter[str] = Counter()
    for index, entry in entries:
        where, key = f"images[{index}]", entry.get("id")
        if type(key) is not int or abs(key) > MAX_ID:
            findings.add(_IMAGE_ID, path, f"{where}.id = {shown(key)}", of=len(entries))
        height, width = (_side(entry.get(side)) for side in ("height", "width"))
        if height is None or width is None:
            sides = f"width = {shown(entry.get('width'))}, height = {shown(entry.get('height'))}"
            findings.add(_SIZE, path, f"{where}: {sides}", of=len(entries))
        name = _file_name(path, where, entry, findings, len(entries))
        if name is not None:
            names[name] += 1
            if names[name] == 2:
                findings.add(_SAME_FILE, path, f"{where}.file_name = {name!r}", of=len(entries))
        if not isinstance(key, int | str):
            continue
        if key in images:
            findings.add(_IMAGE_TWICE, path, f"{where}.id = {shown(key)}", of=len(entries))
        else:
            images[key] = RawImage(key, name, height, width)
    return images


def _side(value: Any) -> int | None:
    return value if type(value) is int and 1 <= value <= MAX_SIDE else None


def _file_name(path: Path, where: str, entry: dict[str, Any], findings: Findings, of: int) -> str | None:
    try:
        return check_file_name(path, where, entry.get("file_name"))
    except UserError as error:
        if "file_name" not in entry and isinstance(entry.get("coco_url"), str):
            findings.add(_LVIS_NAME, path, f"{where}.coco_url = {shown(entry['coco_url'])}", of=of)
        else:
            example = f"{where}.file_name = {shown(entry.get('file_name'))}, {error.problem}"
            findings.add(_NO_NAME, path, example, of=of)
        return None


def _categories(path: Path, entries: list[tuple[int, dict[str, Any]]], findings: Findings) -> dict[int, str]:
    categories: dict[int, str] = {}
    for index, entry in entries:
        where, key, name = f"categories[{index}]", entry.get("id"), entry.get("name")
        if type(key) is not int:
            findings.add(_CATEGORY_ID, path, f"{where}.id = {shown(key)}", of=len(entries))
            continue
        if key in categories:
            findings.add(_CATEGORY_TWICE, path, f"{where}.id = {key}", of=len(entries))
        if type(name) is not str or not name.strip():
            findings.add(_CATEGORY_NAME, path, f"{where}.name = {shown(name)}", of=len(entries))
        categories.setdefault(key, str(name))
    check_same_names(path, list(categories.values()), findings)
    return categories


def _known(images: dict[int | str, RawImage], key: Any) -> RawImage | None:
    return images.get(key) if type(key) in (int, str) else None


def _check_references(
    path: Path, annotations: list[RawAnnotation], categories: dict[int, str], findings: Findings
) -> None:
    seen: set[int] = set()
    of = len(annotations)
    for annotation in annotations:
        where, entry = f"annotations[{annotation.index}]", annotation.entry
        key, category = entry.get("id"), entry.get("category_id")
        if type(key) is not int or abs(key) > MAX_ID:
            findings.add(_ID, path, f"{where}.id = {shown(key)}", of=of)
        elif key in seen:
            findings.add(_TWICE, path, f"{where}.id = {key}", of=of)
        else:
            seen.add(key)
        if annotation.image is None:
            findings.add(_NO_IMAGE, path, f"{where}.image_id = {shown(entry.get('image_id'))}", of=of)
        if type(category) is not int or category not in categories:
            findings.add(_NO_CATEGORY, path, f"{where}.category_id = {shown(category)}", of=of)
        if entry.get("iscrowd", 0) not in (0, 1):
            findings.add(_CROWD, path, f"{where}.iscrowd = {shown(entry['iscrowd'])}", of=of)
