"""What a module of `data.points.tools` has to do, and the reader that makes clicks of what it finds.

A module gives the form, tells whether a file is of it, and yields the photographs with their marks. A folder of files
is read as one, in the order of their names; files of other forms in it are counted.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Protocol

from sapnet_pipe.data.coco.document import SizeOf
from sapnet_pipe.data.errors import FaultKind, FaultReport, UserError
from sapnet_pipe.data.points.click_file import NO_POINTS, ClickFile, ClickForm, PointsFile
from sapnet_pipe.data.points.marked_photos import MarkedPhoto, click_file
from sapnet_pipe.data.points.tool_names import PhotographFinder

UNREADABLE = FaultKind("tool-file", "cannot be read as the tool's", "Export it again from the tool")


class ToolForm(Protocol):
    """A form of a tool; a module will do.

    Attributes:
        FORM: Its name and its frame.
    """

    FORM: ClickForm

    def recognises(self, file: PointsFile) -> bool:
        """Whether the file is of this form, by its content."""
        ...

    def photos(self, file: PointsFile, dropped: Counter[str]) -> Iterator[MarkedPhoto]:
        """The photographs with their marks; what is left out is counted in `dropped`.

        Raises: UserError, ValueError, LookupError, TypeError or AttributeError for a file that is damaged.
        """
        ...


class ToolReader:
    """A form of a tool as a `PointFormat`."""

    def __init__(self, form: ToolForm) -> None:
        self._form = form

    def recognises(self, file: PointsFile) -> bool:
        """Whether the file, or a file of the folder, is of the form."""
        if isinstance(file, PointsFolder):
            return any(self._form.recognises(one) for one in file.files)
        return self._form.recognises(file)

    def read(self, file: PointsFile, size_of: SizeOf | None, report: FaultReport) -> ClickFile:
        """All clicks of the file, or of the files of this form in a folder."""
        dropped = Counter[str]()
        files = file.files if isinstance(file, PointsFolder) else [file]
        photos = (photo for one in files for photo in self._photos(one, file, dropped))
        found = click_file(file, photos, self._form.FORM, size_of, report, dropped)
        if not found.images:
            report(NO_POINTS, "photographs", 0, "so there is no point", "Export the points from the tool again")
        return found

    def _photos(self, file: PointsFile, whole: PointsFile, dropped: Counter[str]) -> Iterator[MarkedPhoto]:
        if file is not whole and not self._form.recognises(file):
            dropped["other_files"] += 1
            return
        try:
            for photo in self._form.photos(file, dropped):
                if file is not whole:
                    photo = photo.inside(file.path.name)
                yield photo
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            if isinstance(error, UserError):
                raise
            problem = f"a damaged {self._form.FORM.name} file ({type(error).__name__}: {error})"
            raise UserError(file.path, "content", file.path.name, problem, UNREADABLE.hint) from error


class PointsFolder(PointsFile):
    """A folder of files of clicks. What macOS leaves behind (``._*``) is passed over."""

    @cached_property
    def files(self) -> list[PointsFile]:
        """Its files and those of the folders in it, by name."""
        paths = (path for path in self.path.rglob("*") if path.is_file() and not path.name.startswith("."))
        ordered = sorted(paths, key=lambda path: path.relative_to(self.path).as_posix())
        return [PointsFile(path, self.photographs, self.category) for path in ordered]

    @property
    def sha256(self) -> str:
        """Hex SHA-256 of the names and the contents of the files."""
        whole = hashlib.sha256()
        for file in self.files:
            whole.update(f"{file.path.relative_to(self.path).as_posix()}\0{file.sha256}\n".encode())
        return whole.hexdigest()


def points_file(path: Path, images_dir: Path | None = None, category: str | None = None) -> PointsFile:
    """The file, or the folder of files, at `path`."""
    kind = PointsFolder if path.is_dir() else PointsFile
    return kind(path, PhotographFinder(images_dir), category)
