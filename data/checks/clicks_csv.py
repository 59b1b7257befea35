"""A CSV file of clicks read as far as it can be; see `data.points.csv_clicks` for the form."""

import csv
import io
import math
from collections import Counter
from pathlib import Path

from sapnet_pipe.data.checks.clicks import MALFORMED, ClickSummary, PlacedClick, check_places
from sapnet_pipe.data.checks.findings import Findings, Kind, shown
from sapnet_pipe.data.checks.photographs import PhotoSizes
from sapnet_pipe.data.checks.raw_document import UNREADABLE, check_same_names
from sapnet_pipe.data.coco.document import check_file_name
from sapnet_pipe.data.errors import UserError
from sapnet_pipe.data.files import disk_errors
from sapnet_pipe.data.points.csv_clicks import COLUMNS, SEPARATORS

_HEADER = Kind("csv-header", "does not name its columns", f"Start the file with {','.join(COLUMNS)}")
_CELLS = Kind("csv-cells", "lines have more or fewer columns than the first", "Quote names that hold a separator")
_CATEGORY = Kind("csv-category", "lines name no category", "Name the object's category in every line")
_NAME = Kind("file-names", "lines have no usable file_name", "Give the name relative to the image folder")
_EMPTY = Kind("no-points", "has no point in it", "Add a line for every object")


def check_csv_clicks(path: Path, photos: PhotoSizes | None, findings: Findings) -> ClickSummary:
    """All checks of the clicks of a CSV file.

    Args:
        photos: Sizes of the photographs by file name; without them the places of the clicks cannot be checked.
    """
    lines = _lines(path, findings)
    clicks: list[PlacedClick] = []
    points: Counter[object] = Counter()
    names: dict[str, None] = {}
    for line, (name, x, y, category) in lines:
        names[category] = None
        points[name] += 1
        size = photos.size(name) if photos is not None else None
        if size is not None:
            clicks.append(PlacedClick(x, y, 0.0, *size, name, category, f"line {line}, x y", None))
    if not lines and not findings.has(_HEADER.name) and not findings.has(UNREADABLE.name):
        findings.add(_EMPTY, path, "no line that could be read")
    check_places(path, clicks, findings)
    check_same_names(path, list(names), findings)
    return ClickSummary({"CSV": len(lines)} if lines else {}, len(names), dict(points))


_Line = tuple[int, tuple[str, float, float, str]]


def _lines(path: Path, findings: Findings) -> list[_Line]:
    try:
        with disk_errors(path):
            text = path.read_text(encoding="utf-8-sig")
    except (UserError, UnicodeDecodeError) as error:
        findings.add(UNREADABLE, path, str(error))
        return []
    first = text.partition("\n")[0]
    separator = max(SEPARATORS, key=first.count)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    header = [name.strip().lower() for name in next(rows, [])]
    missing = [column for column in COLUMNS if header.count(column) != 1]
    if missing:
        findings.add(_HEADER, path, f"line 1 is {shown(first)}, without {', '.join(missing)}")
        return []
    places = [header.index(column) for column in COLUMNS]
    found = []
    for cells in rows:
        if any(cell.strip() for cell in cells):
            line = _line(path, rows.line_num, cells, len(header), places, separator, findings)
            if line is not None:
                found.append(line)
    return found


def _line(
    path: Path, number: int, cells: list[str], columns: int, places: list[int], separator: str, findings: Findings
) -> _Line | None:
    if len(cells) != columns:
        findings.add(_CELLS, path, f"line {number} has {len(cells)} columns, not {columns}: {shown(','.join(cells))}")
        return None
    name, *xy, category = (cells[place].strip() for place in places)
    try:
        check_file_name(path, "file_name", name)
    except UserError as error:
        findings.add(_NAME, path, f"line {number}, file_name = {shown(name)}, {error.problem}")
        return None
    if not category:
        findings.add(_CATEGORY, path, f"line {number}, category is empty")
    x, y = (_number(text if separator == "," else text.replace(",", ".")) for text in xy)
    if not (math.isfinite(x) and math.isfinite(y)):
        findings.add(MALFORMED, path, f"line {number}, x y = {shown(', '.join(xy))}")
        return None
    return number, (name, x, y, category)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
