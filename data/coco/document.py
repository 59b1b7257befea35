"""What every COCO-like JSON file has in common: images, categories, and annotations that refer to them."""

from dataclasses import dataclass
from os import PathLike
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, TypeGuard

from sapnet_pipe.data.errors import UserError
from sapnet_pipe.data.files import read_json

MAX_ID = 2**63 - 1
MAX_CATEGORY_ID = 2**31 - 1
MAX_SIDE = 2**31 - 1
MAX_PIXELS = 2**31 - 1


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One image as its annotation file describes it; `file_name` is relative to the image folder."""

    image_id: int
    file_name: str
    height: int
    width: int


@dataclass(frozen=True, slots=True)
class Category:
    """One kind of object."""

    category_id: int
    name: str


@dataclass(frozen=True)
class CocoDocument:
    """A parsed file whose images, categories and references are valid.

    Attributes:
        images: By image id, in ascending order.
        categories: In ascending order of their ids.
        annotations: The entries as they stand in the file; `id`, `image_id` and `category_id` are whole numbers, ids
            are unique, images and categories exist, `iscrowd` is 0 or 1 where it is given.
    """

    source: Path
    images: dict[int, ImageRecord]
    categories: tuple[Category, ...]
    annotations: list[dict[str, Any]]


def read_document(path: Path) -> CocoDocument:
    """Read a COCO-like JSON file and check all that does not depend on the kind of annotation.

    Raises: UserError naming file, field, value and hint.
    """
    root = read_json(path)
    if not isinstance(root, dict):
        raise UserError(path, "content", type(root).__name__, "which is not a COCO object", "Give a COCO JSON file")
    images, categories = read_head(path, root)
    annotations = _entries(path, root, "annotations")
    known, seen = {category.category_id for category in categories}, set[int]()
    for index, entry in enumerate(annotations):
        check_references(path, index, entry, images, known, seen)
    return CocoDocument(path, images, categories, annotations)


def read_head(path: Path, root: dict[str, Any]) -> tuple[dict[int, ImageRecord], tuple[Category, ...]]:
    """The images by ascending id, and the categories, of a parsed file; UserError as `read_document`."""
    images = _read_images(path, _entries(path, root, "images"))
    return images, _read_categories(path, _entries(path, root, "categories"))


def is_number(value: Any) -> bool:
    """Whether a JSON value is a finite number whose square a float can hold (true and false are not numbers)."""
    return type(value) in (int, float) and -1e30 < value < 1e30


def _is_text(value: Any) -> TypeGuard[str]:
    """Whether a JSON value is a string that is not blank and can be written again (JSON may hold half characters)."""
    return type(value) is str and bool(value.strip()) and not any("\ud800" <= letter <= "\udfff" for letter in value)


def _entries(path: Path, root: dict[str, Any], key: str) -> list[dict[str, Any]]:
    entries = root.get(key)
    if not isinstance(entries, list):
        problem = f"but a COCO file has a list of {key}"
        raise UserError(path, key, entries, problem, f"Add the list '{key}'")
    if not entries:
        raise UserError(path, key, entries, f"which holds no {key}", f"Give at least one entry in '{key}'")
    for index, entry in enumerate(entries):
        if type(entry) is not dict:
            raise UserError(path, f"{key}[{index}]", entry, "which is not an object", "Give an object with an 'id'")
    return entries


def _read_images(path: Path, entries: list[dict[str, Any]]) -> dict[int, ImageRecord]:
    images: dict[int, ImageRecord] = {}
    for index, entry in enumerate(entries):
        where = f"images[{index}]"
        image_id = _whole(path, where, entry, "id", -MAX_ID, MAX_ID)
        height = _whole(path, where, entry, "height", 1, MAX_SIDE)
        width = _whole(path, where, entry, "width", 1, MAX_SIDE)
        if height * width > MAX_PIXELS:
            problem = f"{height} x {width} pixels are more than a mask can hold"
            raise UserError(path, f"{where}.width", width, problem, "Cut the image into tiles")
        if image_id in images:
            raise UserError(path, f"{where}.id", image_id, "which another image has too", "Give every image its own id")
        file_name = check_file_name(path, f"{where}.file_name", entry.get("file_name"))
        images[image_id] = ImageRecord(image_id, file_name, height, width)
    return dict(sorted(images.items()))


def check_file_name(path: str | PathLike[str], field: str, name: Any) -> str:
    """Return `name` if it is a file name inside some folder; UserError if it is absolute, climbs out or is empty."""
    if not _is_text(name):
        raise UserError(path, field, name, "which is not a file name", "Give the file's name in the image folder")
    absolute = PurePosixPath(name).is_absolute() or PureWindowsPath(name).drive or name.startswith("\\")
    if absolute or "\0" in name or ".." in name.replace("\\", "/").split("/"):
        hint = "Use a file name relative to that folder"
        raise UserError(path, field, name, "which leaves the image folder", hint)
    return name


def _read_categories(path: Path, entries: list[dict[str, Any]]) -> tuple[Category, ...]:
    categories: dict[int, Category] = {}
    for index, entry in enumerate(entries):
        where = f"categories[{index}]"
        category_id = _whole(path, where, entry, "id", -MAX_CATEGORY_ID, MAX_CATEGORY_ID)
        name = entry.get("name")
        if not _is_text(name):
            raise UserError(path, f"{where}.name", name, "which is not a name", "Give the category's name")
        if category_id in categories:
            problem = "which another category has too"
            raise UserError(path, f"{where}.id", category_id, problem, "Give every category its own id")
        categories[category_id] = Category(category_id, name)
    return tuple(categories[category_id] for category_id in sorted(categories))


def _whole(path: Path, where: str, entry: dict[str, Any], key: str, low: int, high: int) -> int:
    value = entry.get(key)
    if type(value) is not int or not low <= value <= high:
        bounds = f" from {low} to {high}" if type(value) in (int, float) else ""
        what = "missing" if key not in entry else f"which is not a whole number{bounds}"
        shown = repr(value) if isinstance(value, str) else value  # "3" is not 3, and must not look like it
        raise UserError(path, f"{where}.{key}", shown, what, f"Give '{key}' as a whole number")
    return value


def check_references(
    path: Path, index: int, entry: dict[str, Any], images: dict[int, ImageRecord], categories: set[int], seen: set[int]
) -> None:
    """Check the ids of annotation `index`, one of up to a million: the words only for the one that fails.

    Args:
        seen: Ids of the annotations before it; this one's is added.
    Raises: UserError as `read_document`.
    """
    annotation_id: Any = entry.get("id")
    image_id, category_id = entry.get("image_id"), entry.get("category_id")
    sound = type(annotation_id) is int and type(image_id) is int and type(category_id) is int
    known = sound and annotation_id not in seen and image_id in images and category_id in categories
    if not known or entry.get("iscrowd", 0) not in (0, 1) or not -MAX_ID <= annotation_id <= MAX_ID:
        raise _reference_error(path, f"annotations[{index}]", entry, seen, images, categories)
    seen.add(annotation_id)


def _reference_error(
    path: Path,
    where: str,
    entry: dict[str, Any],
    seen: set[int],
    images: dict[int, ImageRecord],
    categories: set[int],
) -> UserError:
    annotation_id = _whole(path, where, entry, "id", -MAX_ID, MAX_ID)
    image_id = _whole(path, where, entry, "image_id", -MAX_ID, MAX_ID)
    category_id = _whole(path, where, entry, "category_id", -MAX_CATEGORY_ID, MAX_CATEGORY_ID)
    if annotation_id in seen:
        problem = "which another annotation has too"
        return UserError(path, f"{where}.id", annotation_id, problem, "Give every annotation its own id")
    if image_id not in images:
        hint = "Add the image to 'images', or drop the annotation"
        return UserError(path, f"{where}.image_id", image_id, "which is not among the images", hint)
    if category_id not in categories:
        hint = "Add the category to 'categories', or correct the id"
        return UserError(path, f"{where}.category_id", category_id, "which is not among the categories", hint)
    return UserError(path, f"{where}.iscrowd", entry["iscrowd"], "which is neither 0 nor 1", "Give 0 or 1")
