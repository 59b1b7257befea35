"""What every COCO-like JSON file has in common: images, categories, and annotations that refer to them.

Where the report of faults does not raise, the reader goes on: a size at fault becomes 0, a file name empty; an id stays
as it is in the file, so that annotations still find their image; an entry that is not an object is passed over.

What other readers of COCO take is taken: whole numbers written as 3.0, image ids that are text, an `iscrowd` of null,
and sizes that are missing where the photographs can tell them.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sapnet_pipe.data.errors import FaultKind, FaultReport, UserError, mended
from sapnet_pipe.data.files import read_json
from sapnet_pipe.data.photo_names import check_file_name, is_text

MAX_ID = 2**63 - 1
_DIGITS = 19  # as many make more than MAX_ID
UNKNOWN_ID = -MAX_ID - 1  # not an id: stands for one that was reported
MAX_CATEGORY_ID = 2**31 - 1
MAX_SIDE = 2**31 - 1
MAX_PIXELS = 2**31 - 1

_NO_LIST = FaultKind("missing-list", "lists of a COCO file are missing or empty", "Add images, categories, annotations")
_NO_OBJECT = FaultKind("entries-not-objects", "entries are not JSON objects", "Give an object with an 'id'")
_IMAGE_ID = FaultKind(
    "image-ids",
    "images have no whole number as id",
    "Give 'id' as a whole number, and the annotations' 'image_id' with it",
)
_TEXT_ID = mended(
    "image-ids-text",
    "images have a text as id",
    "A number is taken in its place, and the text written beside it as text_id",
)
_IMAGE_TWICE = FaultKind("image-ids-clash", "images have the id of another image", "Give every image its own id")
_SIZE = FaultKind("image-sizes", "images have no whole width and height", "Give width and height in pixels")
_NO_SIZE = mended("image-sizes-missing", "images have no width and height", "They are those of the photographs")
_TOO_LARGE = FaultKind("images-too-large", "images have more pixels than a mask can hold", "Cut the image into tiles")
FILE_NAME = FaultKind("file-names", "images have no usable file_name", "Give the name relative to the image folder")
_LVIS_NAME = FaultKind(
    "file-names-lvis",
    "images have a coco_url but no file_name, as in LVIS",
    "Add file_name: the part of coco_url after its last slash (or last two, for one folder of train and val)",
)
_CATEGORY_ID = FaultKind("category-ids", "categories have no whole number as id", "Give 'id' as a whole number")
_CATEGORY_TWICE = FaultKind("category-ids-clash", "categories have the id of another", "Give every category its own id")
_CATEGORY_NAME = FaultKind("category-names", "categories have no name", "Give the category's name")
_LEFT_OUT = "They are left out"
_ID = FaultKind(
    "annotation-ids", "annotations have no whole number as id", "Give 'id' as a whole number", fix="They get new ids"
)
_TWICE = FaultKind(
    "annotation-ids-clash",
    "annotations have the id of another",
    "Give every annotation its own id, or let `doctor --write-fixed` do it",
    fix="They get new ids",
)
_NO_IMAGE = FaultKind(
    "unknown-images",
    "annotations are of images that are not listed",
    "Add the image to 'images', or drop the annotation",
    fix=_LEFT_OUT,
)
_NO_CATEGORY = FaultKind(
    "unknown-categories",
    "annotations are of categories that are not listed",
    "Add the category to 'categories', or correct the id",
    fix=_LEFT_OUT,
)
_NO_FLAG = FaultKind("iscrowd", "annotations have an iscrowd that is neither 0 nor 1", "Give 0 or 1")
CROWD = FaultKind("crowds", "annotations are crowds and are left out", "Nothing, if that is meant", error=False)

SizeOf = Callable[[str, str], tuple[int, int]]
"""(file name, field that names it) -> (height, width) of a photograph; UserError if it cannot be read."""


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One image as its annotation file describes it; `file_name` is relative to the image folder.

    Attributes:
        text_id: What stands for `image_id` in a file whose ids are text; None if they are numbers.
    """

    image_id: int
    file_name: str
    height: int
    width: int
    text_id: str | None = None


@dataclass(frozen=True, slots=True)
class Category:
    """One kind of object."""

    category_id: int
    name: str


@dataclass(frozen=True)
class CocoDocument:
    """A parsed file whose images, categories and references are valid, except for the faults that were reported.

    Attributes:
        images: By image id, in ascending order.
        categories: In ascending order of their ids.
        info: The file's own description of itself; empty if it has none.
        annotations: The entries as they stand in the file, but for ids like 3.0, which are now whole numbers; ids are
            unique, images and categories exist, `iscrowd` is 0 or 1, or null, where it is given.
    """

    source: Path
    images: dict[int, ImageRecord]
    categories: tuple[Category, ...]
    annotations: list[dict[str, Any]]
    info: Mapping[str, Any] = field(default_factory=dict)

    def entries(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """The annotations that are objects, each with its place in the file."""
        return ((index, entry) for index, entry in enumerate(self.annotations) if type(entry) is dict)

    def image_of(self, entry: dict[str, Any]) -> ImageRecord | None:
        """The image of an annotation; None only where its reference was reported as a fault."""
        return _listed(self.images, entry.get("image_id"))


def read_document(path: Path, report: FaultReport | None = None, size_of: SizeOf | None = None) -> CocoDocument:
    """Read a COCO-like JSON file and check all that does not depend on the kind of annotation.

    Args:
        size_of: Tells the sizes that the file does not; without it they are a fault.
    Raises: UserError naming file, field, value and hint if the file is not JSON, or for a fault if `report` raises it.
    """
    return parse_document(path, read_json(path), report, size_of)


def parse_document(
    path: Path, root: Any, report: FaultReport | None = None, size_of: SizeOf | None = None
) -> CocoDocument:
    """`read_document` of a JSON file that is parsed already."""
    report = report or FaultReport(path)
    if not isinstance(root, dict):
        raise UserError(path, "content", type(root).__name__, "which is not a COCO object", "Give a COCO JSON file")
    images, categories = read_head(root, report, size_of)
    numbers = {image.text_id: image.image_id for image in images.values() if image.text_id is not None}
    if numbers:
        _number_images_of(root.get("annotations"), numbers)
    info = root.get("info")
    annotations = _list(root, "annotations", report)
    document = CocoDocument(path, images, categories, annotations, info if isinstance(info, dict) else {})
    known, seen = {category.category_id for category in categories}, set[int]()
    for index, entry in document.entries():
        check_references(index, entry, images, known, seen, report)
    return document


def read_head(
    root: dict[str, Any], report: FaultReport, size_of: SizeOf | None = None
) -> tuple[dict[int, ImageRecord], tuple[Category, ...]]:
    """The images by ascending id, and the categories, of a parsed file."""
    return read_images(root, report, size_of), _read_categories(root, report)


def is_number(value: Any) -> bool:
    """Whether a JSON value is a finite number whose square a float can hold (true and false are not numbers)."""
    return type(value) in (int, float) and -1e30 < value < 1e30


def _list(root: dict[str, Any], key: str, report: FaultReport) -> list[dict[str, Any]]:
    """The list `key`, whose entries are objects except for those reported; empty if it is missing."""
    entries = root.get(key)
    if not isinstance(entries, list):
        report(_NO_LIST, key, entries, f"but a COCO file has a list of {key}", f"Add the list '{key}'")
        return []
    if not entries:
        report(_NO_LIST, key, entries, f"which holds no {key}", f"Give at least one entry in '{key}'")
    report.entries(key, len(entries))
    for index, entry in enumerate(entries):
        if type(entry) is not dict:
            report(_NO_OBJECT, f"{key}[{index}]", entry, "which is not an object")
    return entries


def read_images(root: dict[str, Any], report: FaultReport, size_of: SizeOf | None = None) -> dict[int, ImageRecord]:
    """The images of a parsed file by ascending id; see `read_document`."""
    images: dict[int, ImageRecord] = {}
    entries = _list(root, "images", report)
    numbers = _numbers_of_texts([entry.get("id") for entry in entries if type(entry) is dict])
    for index, entry in enumerate(entries):
        if type(entry) is not dict:
            continue
        where, text_id = f"images[{index}]", entry.get("id") if numbers else None
        if text_id is not None:
            report(_TEXT_ID, f"{where}.id", text_id, "a text")
            entry["id"] = numbers[text_id]
        _make_whole(entry, "id", "width", "height")
        image_id: Any = entry.get("id")
        _is_whole(where, entry, "id", -MAX_ID, MAX_ID, _IMAGE_ID, report)
        if _listed(images, image_id) is not None:
            report(_IMAGE_TWICE, f"{where}.id", image_id, "which another image has too")
            continue
        file_name = _file_name(where, entry, report)
        if file_name and size_of is not None and entry.get("height") is None and entry.get("width") is None:
            height, width = size_of(file_name, f"{where}.file_name")
            report(_NO_SIZE, f"{where}.file_name", file_name, "which has no width and height")
        else:
            height, width = _size(where, entry, report)
        if type(image_id) in (int, str):
            images[image_id] = ImageRecord(image_id, file_name, height, width, text_id)
    return dict(sorted(images.items(), key=lambda item: in_order(item[0])))


def _numbers_of_texts(ids: list[Any]) -> dict[str, int]:
    """Text -> number, for ids that are all text and differ: the number that each spells, else its place from 1 on."""
    if not ids or not all(is_text(text) for text in ids) or len(set(ids)) != len(ids):
        return {}
    if all(text.isdecimal() and len(text) < _DIGITS for text in ids) and len(set(map(int, ids))) == len(ids):
        return {text: int(text) for text in ids}
    return {text: number for number, text in enumerate(ids, 1)}


def _number_images_of(annotations: Any, numbers: Mapping[str, int]) -> None:
    for entry in annotations if type(annotations) is list else ():
        if type(entry) is dict and type(entry.get("image_id")) is str:
            entry["image_id"] = numbers.get(entry["image_id"], entry["image_id"])


def in_order(identity: Any) -> int:
    """Key to sort by ids; one that is not a whole number, and was reported, comes first."""
    return identity if type(identity) is int else UNKNOWN_ID


def _listed(images: dict[int, ImageRecord], image_id: Any) -> ImageRecord | None:
    return images.get(image_id) if type(image_id) in (int, str) else None


def _size(where: str, entry: dict[str, Any], report: FaultReport) -> tuple[int, int]:
    """(height, width) of an image; zeros if they were reported."""
    if not all(_is_whole(where, entry, side, 1, MAX_SIDE, _SIZE, report) for side in ("height", "width")):
        return 0, 0
    height, width = entry["height"], entry["width"]
    if height * width > MAX_PIXELS:
        problem = f"{height} x {width} pixels are more than a mask can hold"
        report(_TOO_LARGE, f"{where}.width", width, problem)
        return 0, 0
    return height, width


def _file_name(where: str, entry: dict[str, Any], report: FaultReport) -> str:
    """The name of an image; empty if it was reported."""
    if "file_name" not in entry and isinstance(entry.get("coco_url"), str):
        report(_LVIS_NAME, f"{where}.coco_url", entry["coco_url"], "but there is no file_name")
        return ""
    try:
        return check_file_name(report.source, f"{where}.file_name", entry.get("file_name"))
    except UserError as error:
        report.passed_on(FILE_NAME, error)
        return ""


def _read_categories(root: dict[str, Any], report: FaultReport) -> tuple[Category, ...]:
    categories: dict[int, Category] = {}
    for index, entry in enumerate(_list(root, "categories", report)):
        if type(entry) is not dict:
            continue
        where, name = f"categories[{index}]", entry.get("name")
        _make_whole(entry, "id")
        category_id: Any = entry.get("id")
        _is_whole(where, entry, "id", -MAX_CATEGORY_ID, MAX_CATEGORY_ID, _CATEGORY_ID, report)
        if not is_text(name):
            report(_CATEGORY_NAME, f"{where}.name", name, "which is not a name")
        if type(category_id) not in (int, str):
            continue
        if category_id in categories:
            report(_CATEGORY_TWICE, f"{where}.id", category_id, "which another category has too")
            continue
        categories[category_id] = Category(category_id, str(name))
    return tuple(sorted(categories.values(), key=lambda category: in_order(category.category_id)))


def _make_whole(entry: dict[str, Any], *keys: str) -> None:
    """Write 3.0, as pandas and JavaScript export whole numbers, as 3."""
    for key in keys:
        value = entry.get(key)
        if type(value) is float and value.is_integer():
            entry[key] = int(value)


def _is_whole(
    where: str, entry: dict[str, Any], key: str, low: int, high: int, kind: FaultKind, report: FaultReport
) -> bool:
    """Whether `key` is a whole number within limits; if not, it is reported."""
    value = entry.get(key)
    if type(value) is int and low <= value <= high:
        return True
    bounds = f" from {low} to {high}" if type(value) in (int, float) else ""
    problem = "missing" if key not in entry else f"which is not a whole number{bounds}"
    shown = repr(value) if isinstance(value, str) else value  # "3" is not 3, and must not look like it
    report(kind, f"{where}.{key}", shown, problem, None if key == "id" else f"Give '{key}' as a whole number")
    return False


def check_references(
    index: int,
    entry: dict[str, Any],
    images: dict[int, ImageRecord],
    categories: set[int],
    seen: set[int],
    report: FaultReport,
) -> None:
    """Check the ids of annotation `index`, one of up to a million: the words only for the one that fails.

    Ids like 3.0 are made whole.

    Args:
        categories: Ids of all categories.
        seen: Ids of the annotations before it; this one's is added.
    """
    if float in (type(entry.get("id")), type(entry.get("image_id")), type(entry.get("category_id"))):
        _make_whole(entry, "id", "image_id", "category_id")
    annotation_id: Any = entry.get("id")
    image_id, category_id = entry.get("image_id"), entry.get("category_id")
    sound = type(annotation_id) is int and type(image_id) is int and type(category_id) is int
    known = sound and annotation_id not in seen and image_id in images and category_id in categories
    if not known or entry.get("iscrowd") not in (0, 1, None) or not -MAX_ID <= annotation_id <= MAX_ID:
        _report_references(f"annotations[{index}]", entry, images, categories, seen, report)
    if type(annotation_id) is int:
        seen.add(annotation_id)


def _report_references(
    where: str,
    entry: dict[str, Any],
    images: dict[int, ImageRecord],
    categories: set[int],
    seen: set[int],
    report: FaultReport,
) -> None:
    if _is_whole(where, entry, "id", -MAX_ID, MAX_ID, _ID, report) and entry["id"] in seen:
        report(_TWICE, f"{where}.id", entry["id"], "which another annotation has too")
    image_id, category_id = entry.get("image_id"), entry.get("category_id")
    # Ids that are text, where the images or categories have such ids too, were reported there.
    if _listed(images, image_id) is None and _is_whole(where, entry, "image_id", -MAX_ID, MAX_ID, _NO_IMAGE, report):
        report(_NO_IMAGE, f"{where}.image_id", image_id, "which is not among the images")
    known = type(category_id) in (int, str) and category_id in categories
    bounds = -MAX_CATEGORY_ID, MAX_CATEGORY_ID
    if not known and _is_whole(where, entry, "category_id", *bounds, _NO_CATEGORY, report):
        report(_NO_CATEGORY, f"{where}.category_id", category_id, "which is not among the categories")
    if entry.get("iscrowd") not in (0, 1, None):
        report(_NO_FLAG, f"{where}.iscrowd", entry["iscrowd"], "which is neither 0 nor 1")
