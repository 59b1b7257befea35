"""From what annotation tools write, photographs with marks on them, to clicks with ids.

Tools name a photograph and a class by their names, and number nothing. Image ids are given in ascending order of the
file names and category ids in ascending order of the names, both from 1; classes that are all whole numbers keep their
numbers. A point's id is the number of its mark in the file, or the one that the file gives.
"""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from sapnet_pipe.data.coco.document import FILE_NAME, UNKNOWN_ID, Category, ImageRecord, is_number
from sapnet_pipe.data.errors import FaultKind, FaultReport, UserError
from sapnet_pipe.data.photo_names import is_text
from sapnet_pipe.data.points.click_file import (
    MALFORMED,
    NO_POINTS,
    Click,
    ClickFile,
    ClickForm,
    PointsFile,
    SizeOf,
    moved_inside,
)

NO_CATEGORY = FaultKind("csv-category", "points name no category", "Name the object's category")
POINT_IDS = FaultKind(
    "csv-ids", "lines have no id of their own", "Give whole numbers, or leave the column out", fix="They get new ids"
)
_GIVE_CATEGORY = "Name the class in the file, or give --category"
_LONGEST_SIDE = 1_000_000
_WHOLE = re.compile(r"[1-9]\d{0,8}")


class Mark(NamedTuple):
    """A point as a tool writes it.

    Attributes:
        x, y: As they stand in the file, in the form's frame; any value, which is checked later.
        category: A name or a whole number; anything else stands for none.
        where: The place in the file for people, for example ``line 3`` or ``shapes[2]``.
        further: How many more points the object has, which are not used.
        point_id: The file's own id, if it has them; `UNKNOWN_ID` for one that cannot be used.
    """

    x: Any
    y: Any
    category: Any
    where: str
    further: int = 0
    point_id: int | None = None


@dataclass(frozen=True)
class MarkedPhoto:
    """A photograph as a tool lists it, possibly without a mark.

    Attributes:
        name: As the file gives it: it may be a path of another machine or a URL.
        where: The place of the name in the file, for people.
        size: (height, width) that the file gives, None if it gives none.
        unit: What stands for the whole width and height: 100 for percent, 1 for fractions; 0 for pixels.
    """

    name: Any
    where: str
    marks: list[Mark] = field(default_factory=list)
    size: tuple[int, int] | None = None
    unit: float = 0.0

    def inside(self, file_name: str) -> "MarkedPhoto":
        """The same, its places preceded by the name of a file of a folder."""
        marks = [mark._replace(where=f"{file_name}, {mark.where}") for mark in self.marks]
        return replace(self, where=f"{file_name}, {self.where}", marks=marks)


def declared_size(height: Any, width: Any) -> tuple[int, int] | None:
    """(height, width) if both are sizes, as numbers or as text; None otherwise."""
    try:
        size = int(float(height)), int(float(width))
    except (TypeError, ValueError, OverflowError):
        return None
    return size if all(0 < side <= _LONGEST_SIDE for side in size) else None


def click_file(
    file: PointsFile,
    photos: Iterable[MarkedPhoto],
    form: ClickForm,
    size_of: SizeOf | None,
    report: FaultReport,
    dropped: Counter[str] | None = None,
) -> ClickFile:
    """The clicks of a file of a tool.

    Args:
        dropped: What the reader leaves out, by reason; read once `photos` has come to its end.
    Raises: UserError if image sizes are needed and there is no image folder; for a fault if `report` raises it.
    """
    listed: list[tuple[str, MarkedPhoto]] = []
    for photo in photos:
        try:
            listed.append((file.photographs.find(photo.name, file=file.path, field=photo.where), photo))
        except UserError as error:
            report.passed_on(FILE_NAME, error)
    images = _images(listed, size_of, file)
    by_name = {image.file_name: image for image in images.values()}
    rows = [(by_name[name], photo, mark) for name, photo in listed for mark in photo.marks]
    names = [_category(mark, file, report) for _, _, mark in rows]
    categories = _categories(names)
    category_id = {category.name: category.category_id for category in categories}
    found = ClickFile(file.path, images, categories, place="{field}", taken_for=form.name)
    ids = set[int]()
    for number, ((image, photo, mark), category) in enumerate(zip(rows, names, strict=True), 1):
        spot = _pixels(mark, photo, image, report)
        if spot is None:
            continue
        point_id = number if mark.point_id is None else _own_id(mark, ids, report)
        click = Click(image.image_id, point_id, category_id[category], *spot, form, number, mark.where, mark.further)
        if not click.is_in(image):
            fields = f"{mark.where}, x", f"{mark.where}, y"
            click = moved_inside(click, image, fields, report, name=image.file_name)
        found.dropped["points_moved_inside"] += click.moved
        if mark.further:
            found.dropped["further_points"] += mark.further
        found.clicks.append(click)
    found.dropped.update(+(dropped or Counter()))
    if listed and not rows:
        left = ", ".join(f"{count} {reason.replace('_', ' ')}" for reason, count in (dropped or {}).items())
        problem = f"for {len(listed)} photographs{f', but {left}' if left else ''}"
        report(NO_POINTS, "points", 0, problem, "Mark every object by a point")
    return found


def _images(listed: list[tuple[str, MarkedPhoto]], size_of: SizeOf | None, file: PointsFile) -> dict[int, ImageRecord]:
    """By id, in the order of the names; in the size that the file gives first, else that of the photograph."""
    places: dict[str, str] = {}
    sizes: dict[str, tuple[int, int]] = {}
    for name, photo in listed:
        places.setdefault(name, photo.where)
        if photo.size is not None:
            sizes.setdefault(name, photo.size)
    for name, where in places.items():
        if name not in sizes:
            if size_of is None:
                problem = f"but {name} has no size in the file" if sizes else "but the file holds no image sizes"
                hint = "Name the image folder, from which the sizes of the images are read"
                raise UserError(file.path, "images", None, problem, hint)
            sizes[name] = size_of(name, where)
    return {number: ImageRecord(number, name, *sizes[name]) for number, name in enumerate(sorted(places), 1)}


def _category(mark: Mark, file: PointsFile, report: FaultReport) -> str:
    given: Any = str(mark.category) if type(mark.category) is int else mark.category
    name = (given.strip() if is_text(given) else None) or file.category
    if not name:
        report(NO_CATEGORY, f"{mark.where}, category", mark.category, "which names no class", _GIVE_CATEGORY)
    return name or ""


def _categories(names: Iterable[str]) -> tuple[Category, ...]:
    """By ascending name with ids from 1; names that are all whole numbers are their own ids."""
    distinct = sorted(set(names))
    if distinct and all(_WHOLE.fullmatch(name) for name in distinct) and len({*map(int, distinct)}) == len(distinct):
        return tuple(Category(int(name), name) for name in sorted(distinct, key=int))
    return tuple(Category(number, name) for number, name in enumerate(distinct, 1))


def _pixels(mark: Mark, photo: MarkedPhoto, image: ImageRecord, report: FaultReport) -> tuple[float, float] | None:
    """x and y in pixels; None if they are no numbers, which is reported."""
    values = []
    for axis, value, side in (("x", mark.x, image.width), ("y", mark.y, image.height)):
        if not is_number(value):
            report(MALFORMED, f"{mark.where}, {axis}", value, "which is not a finite number")
            return None
        values.append(value * side / photo.unit if photo.unit else float(value))
    return values[0], values[1]


def _own_id(mark: Mark, seen: set[int], report: FaultReport) -> int:
    """The file's own id, which no mark before has; it is added to `seen`."""
    point_id = UNKNOWN_ID if mark.point_id is None else mark.point_id
    if point_id != UNKNOWN_ID and point_id in seen:
        report(POINT_IDS, f"{mark.where}, id", point_id, "which another line has too")
    seen.add(point_id)
    return point_id
