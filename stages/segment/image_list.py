"""Which photographs are to be segmented, and under which ids."""

from pathlib import Path

from sapnet_pipe.data.coco.document import ImageRecord, read_images
from sapnet_pipe.data.errors import FaultReport, UserError
from sapnet_pipe.data.files import read_json
from sapnet_pipe.data.images import image_size
from sapnet_pipe.data.photo_names import is_text, photographs_in, sizes_in, skipped_note


def images_of_folder(
    folder: Path, report: FaultReport, lost: dict[int, UserError] | None = None
) -> tuple[list[ImageRecord], dict[str, int]]:
    """All photographs in a folder and below, by name, with ids from 1; and the number of other files by suffix.

    Args:
        folder: Or one photograph.
        report: Is told of photographs of which a part is read.
        lost: Where given, those that are no images are put there by id with the reason, instead of raised.
    Raises: UserError if there is none, or if one is not an image.
    """
    names, others = ([folder.name], dict[str, int]()) if folder.is_file() else photographs_in(folder)
    folder = folder.parent if folder.is_file() else folder
    if not names:
        hint = skipped_note(others) or "Name another folder"
        problem = "none of which is a photograph"
        raise UserError(folder, "images", f"{sum(others.values())} files", problem, hint.rstrip("."))
    records = []
    for index, name in enumerate(names, 1):
        if not is_text(name):
            problem = "a name that is not UTF-8, which no JSON file can hold"
            raise UserError(folder, "images", name, problem, "Rename it, for example with convmv")
        try:
            records.append(ImageRecord(index, name, *image_size(folder / name, report=report)))
        except UserError as error:
            if lost is None:
                raise
            lost[index] = error
    return records, others


def images_of_file(path: Path, images_dir: Path, report: FaultReport) -> list[ImageRecord]:
    """The images of a COCO file by ascending id; its annotations, if it has any, are not looked at.

    Args:
        images_dir: Where sizes are read that the file does not give.
    Raises: UserError naming the entry at fault.
    """
    root = read_json(path)
    images = read_images(root if isinstance(root, dict) else {}, report, sizes_in(images_dir, path))
    return list(images.values())
