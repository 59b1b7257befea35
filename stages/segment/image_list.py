"""Which photographs are to be segmented, and under which ids."""

from pathlib import Path

from sapnet_pipe.data.coco.document import ImageRecord, read_images
from sapnet_pipe.data.errors import FaultReport, UserError
from sapnet_pipe.data.files import read_json
from sapnet_pipe.data.images import SUFFIXES, image_size


def images_of_folder(folder: Path) -> tuple[list[ImageRecord], int]:
    """All photographs in a folder and below, by name, with ids from 1; and the number of other files.

    Raises: UserError if there is none, or if one is not an image.
    """
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    names = [name for name in files if name.lower().endswith(SUFFIXES)]
    if not names:
        raise UserError(folder, "images", f"{len(files)} files", "none of which is a photograph", "Name another folder")
    records = [ImageRecord(index, name, *image_size(folder / name)) for index, name in enumerate(names, 1)]
    return records, len(files) - len(names)


def images_of_file(path: Path) -> list[ImageRecord]:
    """The images of a COCO file by ascending id; its annotations, if it has any, are not looked at.

    Raises: UserError naming the entry at fault.
    """
    root = read_json(path)
    images = read_images(root if isinstance(root, dict) else {}, FaultReport(path))
    return list(images.values())
