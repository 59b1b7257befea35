"""CSV with a header: ``file_name,x,y,category``, one click a line; ``id`` if there is one, further columns ignored.

Other usual names of the columns will do (`_COLUMNS`). The text is UTF-8 or, with its byte order mark, UTF-16; a line
``sep=;`` before the header is passed over, and so are blank lines.

Spreadsheets of many countries write semicolons between the columns and commas before the decimals: where the header is
separated by semicolons or tabs, so are the lines, and 12,5 is 12.5.

Image ids are given in ascending order of the file names and category ids in ascending order of the names, both from 1;
a point's id is that of the column ``id``, or without one the number of its data line. Image sizes are read from the
image folder, as viewers show the images.
"""

import codecs
import csv
import io
import math
import re
from collections.abc import Iterator
from typing import NamedTuple

from sapnet_pipe.data.coco.document import FILE_NAME, UNKNOWN_ID, Category, ImageRecord
from sapnet_pipe.data.errors import FaultKind, FaultReport, UserError
from sapnet_pipe.data.photo_names import check_file_name
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
_COLUMNS = {
    "file_name": ("file_name", "filename", "image", "image_path", "file"),
    "x": ("x",),
    "y": ("y",),
    "category": ("category", "label", "class"),
}
_SUFFIXES = (".csv", ".tsv", ".txt")
_HEADER = FaultKind("csv-header", "does not name its columns", f"Start the file with the line {','.join(_COLUMNS)}")
_CELLS = FaultKind("csv-cells", "lines have more or fewer columns than the first", "Quote names that hold a separator")
_CATEGORY = FaultKind("csv-category", "lines name no category", "Name the object's category")
_ID = "id"
_IDS = FaultKind(
    "csv-ids", "lines have no id of their own", "Give whole numbers, or leave the column out", fix="They get new ids"
)
_QUOTE_HINT = "Close the quotation mark, or double it inside of a name"
_QUOTE = FaultKind("csv-quotes", "lines have a quotation mark that is not closed", _QUOTE_HINT)
_SEP = re.compile(r"sep=[,;\t]?\s*$", re.IGNORECASE)
_BLANK = '\r\n\t ,;"'
_NUMBER_HINT = "Give original pixels, with a point before the decimals"


class _Row(NamedTuple):
    line: int
    file_name: str
    x: float
    y: float
    category: str
    id_text: str | None


def recognises(file: PointsFile) -> bool:
    """By its suffix; JSON is told from text by its first character."""
    suffix = file.path.suffix.lower()
    return suffix in _SUFFIXES and (suffix == ".csv" or file.content.lstrip()[:1] not in (b"{", b"["))


def read(file: PointsFile, size_of: SizeOf | None, report: FaultReport) -> ClickFile:
    """One click per line; faults name the line and the column."""
    path = file.path
    if size_of is None:
        hint = "Name the image folder, from which the sizes of the images are read"
        raise UserError(path, "images", None, "but a CSV file holds no image sizes", hint)
    rows = list(_rows(file, report))
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


def _rows(file: PointsFile, report: FaultReport) -> Iterator[_Row]:
    """The lines that can be used; those at fault are reported."""
    text = _text(file)
    first = next((line for line in text.splitlines() if line.strip(_BLANK) and not _SEP.match(line)), "")
    separator = max(_SEPARATORS, key=first.count)
    lines = _Lines(text, separator)
    try:
        header = [name.strip().lower() for name in next(lines, [])]
        places = _places(header, lines.first, report)
        if places is None:
            return
        id_place = header.index(_ID) if _ID in header else None
        filled = 0
        for cells in lines:
            filled += 1
            if _swallows_lines(cells, places, separator):
                problem = "in which a quotation mark is not closed before the line ends"
                report(_QUOTE, f"line {lines.first}", ",".join(cells), problem)
                continue
            row = _row(lines.first, cells, places, len(header), separator != ",", report)
            if row is not None:
                yield row if id_place is None else row._replace(id_text=cells[id_place].strip())
        if not filled:
            report(NO_POINTS, "lines", 0, "the file has no click", "Add a line for every object")
    except csv.Error as error:
        raise UserError(file.path, f"line {lines.first}", str(error), "which is not CSV", _QUOTE_HINT) from error


def _text(file: PointsFile) -> str:
    content = file.content
    encoding = "utf-16" if content[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        hint = "Save the file as UTF-8"
        raise UserError(file.path, "content", content[:40], "which is not UTF-8 text", hint) from error


class _Lines:
    """The lines of a CSV text that hold something, as cells; `first` is where the last of them began, from 1."""

    def __init__(self, text: str, separator: str) -> None:
        lines = io.StringIO(text, newline="")
        self._reader = csv.reader(lines, delimiter=separator, strict=True)
        self.first = 1

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> list[str]:
        while True:
            self.first = self._reader.line_num + 1
            cells = next(self._reader)
            is_separator = len(cells) <= 2 and _SEP.match(",".join(cells)) and self.first == 1
            if any(cell.strip() for cell in cells) and not is_separator:
                return cells


def _swallows_lines(cells: list[str], places: list[int], separator: str) -> bool:
    """Whether a quoted cell holds whole lines of the table; one of a further column may hold lines of a comment."""
    long = [(place, cell) for place, cell in enumerate(cells) if "\n" in cell]
    return any(place in places or cell.count(separator) >= len(places) - 1 for place, cell in long)


def _places(header: list[str], line: int, report: FaultReport) -> list[int] | None:
    """In which column each of `_COLUMNS` stands; None if that was reported as a fault."""
    places = []
    for column, names in _COLUMNS.items():
        found = [place for place, name in enumerate(header) if name in names]
        exact = [place for place in found if header[place] == column]
        if len(exact or found) != 1:
            problem = f"in which the column '{column}' is {'doubled' if found else 'missing'}"
            report(_HEADER, f"line {line}", ",".join(header), problem)
            return None
        places.append((exact or found)[0])
    if header.count(_ID) > 1:
        report(_HEADER, f"line {line}", ",".join(header), f"in which the column '{_ID}' is doubled")
        return None
    return places


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
    whole = re.fullmatch(r"([+-]?\d{1,18})(?:[.,]0{1,2})?", text)
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
