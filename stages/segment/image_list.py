"""Which photographs are to be segmented, and under which ids."""

from pathlib import Path
from typing import Any

from sapnet_pipe.data.coco.document import check_file_name
from sapnet_pipe.data.coco.instances import ImageRecord
from sapnet_pipe.data.errors import UserError
from sapnet_pipe.data.files import read_json
from sapnet_pipe.data.images import image_size

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")


def images_of_folder(folder: Path) -> tuple[list[ImageRecord], int]:
    """All photographs in a folder and below, by name, with ids from 1; and the number of other files.

    Raises: UserError if there is none, or if one is not an image.
    """
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    names = [name for name in files if name.lower().endswith(SUFFIXES)]
    if not names:
        raise UserError(folder, "images", f"{len(files)} files", "of which none is a photograph", "Name another folder")
    records = [ImageRecord(index, name, *image_size(folder / name)) for index, name in enumerate(names, 1)]
    return records, len(files) - len(names)


def images_of_file(path: Path) -> list[ImageRecord]:
    """The images of a COCO file by ascending id; its annotations, if it has any, are not looked at.

    Raises: UserError naming the entry at fault.
    """
    root = read_json(path)
    entries = root.get("images") if isinstance(root, dict) else None
    if not isinstance(entries, list) or not entries:
        raise UserError(path, "images", entries, "but a list of images is needed", "Give a COCO file with 'images'")
    records: dict[int, ImageRecord] = {}
    for index, entry in enumerate(entries):
        record = _record(path, f"images[{index}]", entry)
        if record.image_id in records:
            hint = "Give every image its own id"
            raise UserError(path, f"images[{index}].id", record.image_id, "which another image has too", hint)
        records[record.image_id] = record
    return [records[image_id] for image_id in sorted(records)]


def _record(path: Path, where: str, entry: Any) -> ImageRecord:
    if not isinstance(entry, dict):
        raise UserError(path, where, entry, "which is not an object", "Give id, file_name, height and width")
    for key, least in (("id", None), ("height", 1), ("width", 1)):
        value = entry.get(key)
        if type(value) is not int or (least is not None and value < least):
            raise UserError(path, f"{where}.{key}", value, "which is not a whole number that fits", f"Correct '{key}'")
    name = check_file_name(path, f"{where}.file_name", entry.get("file_name"))
    return ImageRecord(entry["id"], name, entry["height"], entry["width"])
