"""Photographs in an exported folder, and the names of the files that go with them."""

import os
import shutil
from pathlib import Path, PurePosixPath

from sapnet_pipe.data.coco.document import ImageRecord
from sapnet_pipe.data.errors import UserError
from sapnet_pipe.data.exports.record import ExportJob
from sapnet_pipe.data.images import image_sizes
from sapnet_pipe.data.photo_names import find_photograph


def stems(job: ExportJob) -> dict[int, str]:
    """image_id -> the file name without its suffix, with slashes, for the file that goes with the photograph.

    Raises: UserError if two photographs would share it.
    """
    found: dict[str, ImageRecord] = {}
    for record in job.records:
        stem = str(PurePosixPath(record.file_name.replace("\\", "/")).with_suffix(""))
        other = found.setdefault(stem, record)
        if other is not record:
            problem = f"which goes by the same name, without suffix, as {other.file_name}"
            raise UserError(job.source, f"image {record.image_id}.file_name", record.file_name, problem, "Rename one")
    return {record.image_id: stem for stem, record in found.items()}


def photograph(job: ExportJob, record: ImageRecord) -> Path | None:
    """The photograph, if a folder of them is given.

    Raises: UserError if it is not there, is no image, or is of another size than its masks.
    """
    if job.images_dir is None:
        return None
    blamed = job.source, f"image {record.image_id}.file_name"
    path = find_photograph(job.images_dir, record.file_name, file=blamed[0], field=blamed[1])
    if not path.is_file():
        raise UserError(*blamed, record.file_name, f"which is not in {job.images_dir}", "Give the folder that holds it")
    raw, turned = image_sizes(path)
    if (record.height, record.width) not in (raw, turned):
        problem = (
            f"whose image is {turned[1]} wide and {turned[0]} high, but its masks are {record.width} x {record.height}"
        )
        raise UserError(*blamed, record.file_name, problem, "Give the photographs that the masks were made on")
    return path


def place_photograph(job: ExportJob, record: ImageRecord, folder: Path, stem: str) -> Path | None:
    """Copy or link the photograph into `folder` as `stem` with its own suffix; None if there is nothing to place."""
    source = photograph(job, record) if job.options.photographs != "none" else None
    if source is None:
        return None
    path = folder / f"{stem}{source.suffix}"
    path.parent.mkdir(parents=True, exist_ok=True)
    if job.options.photographs == "link":
        path.symlink_to(source.resolve())
    else:
        shutil.copyfile(source, path)
    return path


def relative(target: Path, folder: Path) -> str:
    """How `target` is named from within `folder`, with slashes."""
    return Path(os.path.relpath(target.resolve(), folder.resolve())).as_posix()


def without_photographs(job: ExportJob, where: str) -> list[str]:
    """A note if the form needs photographs and has none."""
    if job.images_dir is not None and job.options.photographs != "none":
        return []
    return [f"the photographs are not in the result: give --images, or put them into {where} under their own names."]
