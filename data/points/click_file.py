"""What a reader of clicks hands over, and what every file format of clicks has to do.

A format is a module with the two functions of `PointFormat`, listed in `data.points.reader.FORMATS`.
"""

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from sapnet_pipe.data.coco.document import Category, CocoDocument, ImageRecord, SizeOf
from sapnet_pipe.data.errors import FaultKind, FaultReport, UserError
from sapnet_pipe.data.files import parse_json, reading
from sapnet_pipe.data.points.tool_names import PhotographFinder

MALFORMED = FaultKind(
    "points-malformed",
    "points cannot be understood",
    "Give x and y as two numbers in pixels",
    fix="They are left out",
)
OUTSIDE = FaultKind(
    "points-off-image",
    "points lie outside their image",
    "Give points in original pixels (those of a resized picture must be scaled back)",
    fix="They are left out",
)
NO_POINTS = FaultKind("no-points", "has no point in it", "Add a point for every object")


@dataclass(frozen=True)
class ClickForm:
    """A way in which clicks are written.

    Attributes:
        name: For people.
        slack: How far outside the image the form's own tools may have put a click, in pixels.
        shift: What has to be added for our frame, in which the first pixel spans 0 to 1.
    """

    name: str
    slack: float = 0.0
    shift: float = 0.0


class Click(NamedTuple):
    """A click as it stands in a file.

    Attributes:
        x, y: In the file's own frame.
        entry: Number of the annotation, from 0, or of the line, from 1.
        field: Where in that entry, for example ``point``.
        further: How many more points the object has in the file, which are not used.
        moved: Whether it lies in the slack around its image, so that it has to be moved to the border.
    """

    image_id: int
    point_id: int
    category_id: int
    x: float
    y: float
    form: ClickForm
    entry: int
    field: str
    further: int = 0
    moved: bool = False

    @property
    def xy(self) -> tuple[float, float]:
        """x and y in our frame, moved to the left and the upper border where it has to be."""
        return max(self.x, 0.0) + self.form.shift, max(self.y, 0.0) + self.form.shift

    def is_in(self, image: ImageRecord) -> bool:
        """Whether it lies inside the image, or there is no telling."""
        return (0 <= self.x < image.width and 0 <= self.y < image.height) or not image.height


@dataclass
class ClickFile:
    """What a file of clicks holds. All clicks lie within their images, except for those reported as faults.

    Attributes:
        images: By id, also those without a click; in a size of 0 where it is not known.
        dropped: What was left out or corrected: ``crowd``, ``without_point``, ``points_moved_inside``; and
            ``further_points`` of objects that have several, if there are any.
        place: Names the place of a click in this file.
        document: The COCO file, if it is one.
        taken_for: The form that the file was taken for, for people.
    """

    source: Path
    images: dict[int, ImageRecord]
    categories: tuple[Category, ...]
    clicks: list[Click] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=lambda: Counter(crowd=0, without_point=0, points_moved_inside=0))
    place: str = "annotations[{entry}].{field}"
    document: CocoDocument | None = None
    taken_for: str = ""

    def where(self, click: Click) -> str:
        """The place of a click for people, for example ``annotations[17].point``."""
        return self.place.format(entry=click.entry, field=click.field)


class PointsFile:
    """A file that is to be recognised and read. Its bytes are read once: it may be a pipe, or change.

    Attributes:
        photographs: Those of the image folder, among which a tool's own name of one is looked up.
        category: Of the clicks whose file names none.
    """

    def __init__(self, path: Path, photographs: PhotographFinder, category: str | None = None) -> None:
        self.path, self.photographs, self.category = path, photographs, category

    @cached_property
    def content(self) -> bytes:
        """Its bytes; UserError if they cannot be read."""
        with reading(self.path):
            return self.path.read_bytes()

    @cached_property
    def json(self) -> Any:
        """Its content as JSON; UserError if it is not JSON."""
        return parse_json(self.content, self.path)

    @cached_property
    def json_or_none(self) -> Any:
        """Its content as JSON; None if it is none."""
        if self.content.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] not in (b"{", b"["):
            return None
        try:
            return self.json
        except UserError:
            return None

    @property
    def sha256(self) -> str:
        """Hex SHA-256 of the bytes that are parsed, and of the category that was given with them."""
        content = hashlib.sha256(self.content)
        if self.category is not None:
            content.update(f"\0{self.category}".encode())
        return content.hexdigest()


class PointFormat(Protocol):
    """A file format of clicks; a module will do."""

    def recognises(self, file: PointsFile) -> bool:
        """Whether the file is of this format, by its name or its content."""
        ...

    def read(self, file: PointsFile, size_of: SizeOf | None, report: FaultReport) -> ClickFile:
        """Read all clicks.

        Args:
            size_of: Tells the sizes of photographs, for files that hold none; None without an image folder.
        Raises: UserError if there is nothing to read in the file, or for a fault if `report` raises it.
        """
        ...


def moved_inside(
    click: Click, image: ImageRecord, fields: tuple[str, str], report: FaultReport, name: object = None
) -> Click:
    """A click that does not lie in its image, marked as moved to the border; beyond the slack it is reported.

    Args:
        fields: Where x and y stand in the file.
        name: What the report calls the image, if not by its id.
    """
    slack = click.form.slack
    sides = ((click.x, fields[0], image.width, "wide"), (click.y, fields[1], image.height, "high"))
    for value, where, size, word in sides:
        if not -slack <= value < size + slack:
            report(OUTSIDE, where, value, f"but image {name or image.image_id} is {size} {word}")
            return click
    return click._replace(moved=True)
