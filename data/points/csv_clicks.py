"""CSV with a header: ``file_name,x,y,category``, one click a line; ``id`` if there is one, further columns ignored.

Spreadsheets of many countries write semicolons between the columns and commas before the decimals: where the header is
separated by semicolons or tabs, so are the lines, and 12,5 is 12.5.

Image ids are given in ascending order of the file names and category ids in ascending order of the names, both from 1;
a point's id is that of the column ``id``, or without one the number of its data line. Image sizes are read from the
image folder, as viewers show the images.
"""

import csv
import itertools
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from sapnet_pipe.data.coco.document import FILE_NAME, UNKNOWN_ID, Category, ImageRecord, check_file_name
from sapnet_pipe.data.errors import FaultKind, FaultReport, UserError
from sapnet_pipe.data.files import disk_errors
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

_FORM = ClickForm("CSV")
_SEPARATORS = (",", ";", "\t")
_COLUMNS = ("file_name", "x", "y", "category")
_HEADER = FaultKind("csv-header", "does not name its columns", f"Start the file with the line {','.join(_COLUMNS)}")
_CELLS = FaultKind("csv-cells", "lines have more or fewer columns than the first", "Quote names that hold a separator")
_CATEGORY = FaultKind("csv-category", "lines name no category", "Name the object's category")
_ID = "id"
_IDS = FaultKind("csv-ids", "lines have no id of their own", "Give whole numbers, or leave the column out")
_NUMBER_HINT = "Give original pixels, with a point before the decimals"


class _Row(NamedTuple):
    line: int
    file_name: str
    x: float
    y: float
    category: str
    id_text: str | None


def recognises(file: PointsFile) -> bool:
    """By its suffix."""
    return file.path.suffix.lower() == ".csv"


def read(file: PointsFile, size_of: SizeOf | None, report: FaultReport) -> ClickFile:
    """One click per line; faults name the line and the column."""
    path = file.path
    if size_of is None:
        hint = "Name the image folder, from which the sizes of the images are read"
        raise UserError(path, "images", None, "but a CSV file holds no image sizes", hint)
    rows = list(_rows(path, report))
    names = sorted({row.category for row in rows})
    category_id = {name: index for index, name in enumerate(names, 1)}
    images = _images(rows, size_of)
    by_name = {image.file_name: image for image in images.values()}
    categories = tuple(Category(index, name) for name, index in category_id.items())
    found = ClickFile(path, images, categories, place="line {entry}")
    ids = set[int]()
    for number, row in enumerate(rows, 1):
        image = by_name[row.file_name]
        point_id = number if row.id_text is None else _point_id(row.line, row.id_text, ids, report)
        click = Click(image.image_id, point_id, category_id[row.category], row.x, row.y, _FORM, row.line, "")
        if not click.is_in(image):
            fields = f"line {row.line}, x", f"line {row.line}, y"
            click = moved_inside(click, image, fields, report, name=image.file_name)
        found.clicks.append(click)
    return found


def _rows(path: Path, report: FaultReport) -> Iterator[_Row]:
    """The lines that can be used; those at fault are reported."""
    try:
        with disk_errors(path), path.open(newline="", encoding="utf-8-sig") as file:
            first = file.readline()
            separator = max(_SEPARATORS, key=first.count)
            lines = csv.reader(itertools.chain([first], file), delimiter=separator)
            header = [name.strip().lower() for name in next(lines, [])]
            for column in _COLUMNS:
                if header.count(column) != 1:
                    problem = f"in which the column '{column}' is {'doubled' if column in header else 'missing'}"
                    report(_HEADER, "line 1", ",".join(header), problem)
                    return
            if header.count(_ID) > 1:
                report(_HEADER, "line 1", ",".join(header), f"in which the column '{_ID}' is doubled")
                return
            places = [header.index(column) for column in _COLUMNS]
            id_place = header.index(_ID) if _ID in header else None
            filled = 0
            for cells in lines:
                if any(cell.strip() for cell in cells):
                    filled += 1
                    row = _row(lines.line_num, cells, places, len(header), separator != ",", report)
                    if row is not None:
                        yield row if id_place is None else row._replace(id_text=cells[id_place].strip())
            if not filled:
                report(NO_POINTS, "lines", 0, "the file has no click", "Add a line for every object")
    except UnicodeDecodeError as error:
        raise UserError(
            path, "content", error.object[:40], "which is not UTF-8 text", "Save the file as UTF-8"
        ) from error
    except csv.Error as error:
        raise UserError(path, "content", str(error), "which is not CSV", "Write the file again") from error


def _row(
    line: int, cells: list[str], places: list[int], columns: int, decimal_comma: bool, report: FaultReport
) -> _Row | None:
    where = f"line {line}"
    if len(cells) != columns:
        problem = f"which has {len(cells)} columns, but the first line has {columns}"
        report(_CELLS, where, ",".join(cells), problem)
        return None
    name, x, y, category = (cells[place].strip() for place in places)
    if decimal_comma:
        x, y = x.replace(",", "."), y.replace(",", ".")
    try:
        check_file_name(report.source, f"{where}, file_name", name)
    except UserError as error:
        report.passed_on(FILE_NAME, error)
        return None
    if not category:
        report(_CATEGORY, f"{where}, category", category, "which is empty")
    numbers = _number(f"{where}, x", x, report), _number(f"{where}, y", y, report)
    if numbers[0] is None or numbers[1] is None:
        return None
    return _Row(line, name, numbers[0], numbers[1], category, None)


def _point_id(line: int, text: str, seen: set[int], report: FaultReport) -> int:
    """A whole number (also 12.0, as spreadsheets write it) that no line before has; it is added to `seen`."""
    whole = re.fullmatch(r"([+-]?\d{1,18})(?:[.,]0*)?", text)
    if whole is None:
        report(_IDS, f"line {line}, {_ID}", text, "which is not a whole number")
        return UNKNOWN_ID
    point_id = int(whole.group(1))
    if point_id in seen:
        report(_IDS, f"line {line}, {_ID}", text, "which another line has too")
    seen.add(point_id)
    return point_id


def _number(field: str, text: str, report: FaultReport) -> float | None:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if math.isfinite(value):
        return value
    report(MALFORMED, field, text, "which is not a finite number", _NUMBER_HINT)
    return None


def _images(rows: list[_Row], size_of: SizeOf) -> dict[int, ImageRecord]:
    first_line: dict[str, int] = {}
    for row in rows:
        first_line.setdefault(row.file_name, row.line)
    return {
        image_id: ImageRecord(image_id, name, *size_of(name, f"line {first_line[name]}, file_name"))
        for image_id, name in enumerate(sorted(first_line), 1)
    }
