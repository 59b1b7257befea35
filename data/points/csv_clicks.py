"""Tables with a header, one click a line: CSV of spreadsheets and of the tools that write such.

Columns are told by their usual names (`_COLUMNS`); ``id`` is read if there is one, further columns are ignored. Of
other tools' tables these are known:

    HerdNet         images,x,y,labels
    DeepForest      image_path,x,y,label, or geometry with POINT (x y)
    DotDotGoose     survey id,image,class,x,y
    napari          index,axis-0,axis-1: row before column, in whole pixels' centres; one file an image
    ImageJ results  a number without a header first, X, Y, the image under Label; Counter or Type is the class

A table without a column of images is that of the photograph whose name the file has; one without classes needs
``--category``. The text is UTF-8 or, with its byte order mark, UTF-16; a line ``sep=;`` before the header is passed
over, and so are blank lines. Spreadsheets of many countries write semicolons between the columns and commas before the
decimals: where the header is separated by semicolons or tabs, so are the lines, and 12,5 is 12.5.

Image sizes are read from the image folder, as viewers show the images; ids are given as `marked_photos` says.
"""

import codecs
import csv
import io
import math
import re
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from sapnet_pipe.data.coco.document import UNKNOWN_ID
from sapnet_pipe.data.errors import FaultKind, FaultReport, UserError
from sapnet_pipe.data.points.click_file import MALFORMED, NO_POINTS, ClickFile, ClickForm, PointsFile, SizeOf
from sapnet_pipe.data.points.marked_photos import POINT_IDS, Mark, MarkedPhoto, click_file
from sapnet_pipe.data.points.tool_file import PointsFolder

_CSV = ClickForm("CSV table")
_SEPARATORS = (",", ";", "\t")
_COLUMNS = {
    "file_name": ("file_name", "filename", "image", "images", "image_path", "image_name", "file"),
    "x": ("x", "col", "column"),
    "y": ("y", "row"),
    "category": ("category", "label", "labels", "class", "species"),
}
_EXAMPLE = ",".join(_COLUMNS)
_POINT = re.compile(r"\s*POINT\s*\(\s*(\S+)\s+(\S+?)\s*\)\s*", re.IGNORECASE)
_NAPARI = ClickForm("napari points", shift=0.5)
_RESULTS = ClickForm("ImageJ results")
_NO_CATEGORY_HINT = f"Start the file with the line {_EXAMPLE}, or give --category for all of it"
_AXIS = re.compile(r"axis-(\d)")
_SUFFIXES = (".csv", ".tsv", ".txt")
_HEADER = FaultKind("csv-header", "does not name its columns", f"Start the file with the line {_EXAMPLE}")
_CELLS = FaultKind("csv-cells", "lines have more or fewer columns than the first", "Quote names that hold a separator")
_ID = "id"
_QUOTE_HINT = "Close the quotation mark, or double it inside of a name"
_QUOTE = FaultKind("csv-quotes", "lines have a quotation mark that is not closed", _QUOTE_HINT)
_SEP = re.compile(r"sep=[,;\t]?\s*$", re.IGNORECASE)
_BLANK = '\r\n\t ,;"'
_NUMBER_HINT = "Give original pixels, with a point before the decimals"


class _Table(NamedTuple):
    """Which columns of a table are read.

    Attributes:
        form: The table's kind.
        file_name, x, y, category, id: Places of the columns, None for one that is not there.
        columns: How many there are.
        wkt: Whether `x` and `y` are one column, of POINT (x y).
        decimal_comma: Whether 12,5 is 12.5.
    """

    form: ClickForm
    file_name: int | None
    x: int
    y: int
    category: int | None
    id: int | None
    columns: int
    wkt: bool
    decimal_comma: bool


def recognises(file: PointsFile) -> bool:
    """By its suffix; JSON is told from text by its first character. A folder by the files in it."""
    if isinstance(file, PointsFolder):
        return any(map(recognises, file.files))
    suffix = file.path.suffix.lower()
    return suffix in _SUFFIXES and (suffix == ".csv" or file.content.lstrip()[:1] not in (b"{", b"["))


def read(file: PointsFile, size_of: SizeOf | None, report: FaultReport) -> ClickFile:
    """One click per line, of every table of a folder; faults name the line and the column."""
    if size_of is None:
        hint = "Name the image folder, from which the sizes of the images are read"
        raise UserError(file.path, "images", None, "but a CSV file holds no image sizes", hint)
    photos, forms, dropped = list[MarkedPhoto](), list[ClickForm](), Counter[str]()
    for one in file.files if isinstance(file, PointsFolder) else [file]:
        if one is not file and not recognises(one):
            dropped["other_files"] += 1
            continue
        rows, form = _read_table(one, "" if one is file else f"{one.path.name}, ", report)
        photos += rows
        forms.append(form)
    if any(form != forms[0] for form in forms):
        problem = f"which holds {forms[0].name} and {next(form.name for form in forms if form != forms[0])}"
        raise UserError(file.path, "--points", str(file.path), problem, "Put each kind into a folder of its own")
    return click_file(file, photos, forms[0] if forms else _CSV, size_of, report, dropped)


def _read_table(file: PointsFile, place: str, report: FaultReport) -> tuple[list[MarkedPhoto], ClickForm]:
    """The rows of one table; `place` goes before every line number."""
    text = _text(file)
    first = next((line for line in text.splitlines() if line.strip(_BLANK) and not _SEP.match(line)), "")
    separator = max(_SEPARATORS, key=first.count)
    lines = _Lines(text, separator)
    try:
        header = [name.strip().lower() for name in next(lines, [])]
        table = _table_of(header, f"{place}line {lines.first}", separator, file, report)
        rows = [] if table is None else list(_photos(lines, table, file, separator, place, report))
    except csv.Error as error:
        raise UserError(file.path, f"line {lines.first}", str(error), "which is not CSV", _QUOTE_HINT) from error
    return rows, _CSV if table is None else table.form


def _photos(
    lines: "_Lines", table: _Table, file: PointsFile, separator: str, place: str, report: FaultReport
) -> Iterator[MarkedPhoto]:
    """A photograph with one mark for every line that can be used; those at fault are reported."""
    needed = [column for column in (table.file_name, table.x, table.y, table.category) if column is not None]
    own_name = None if table.file_name is not None else file.photographs.photograph_of(file.path)
    filled = 0
    for cells in lines:
        filled += 1
        where = f"{place}line {lines.first}"
        if _swallows_lines(cells, needed, separator):
            problem = "in which a quotation mark is not closed before the line ends"
            report(_QUOTE, where, ",".join(cells), problem)
        elif len(cells) != table.columns:
            problem = f"which has {len(cells)} columns, but the first line has {table.columns}"
            report(_CELLS, where, ",".join(cells), problem)
        else:
            cells = [cell.strip() for cell in cells]
            name = own_name if table.file_name is None else cells[table.file_name]
            if table.form is _RESULTS and table.file_name is not None:
                name = (name or "").partition(":")[0]  # of a stack the slice follows
            mark = _mark(cells, table, where, report)
            if mark is not None:
                yield MarkedPhoto(name, f"{where}, file_name", [mark])
    if not filled:
        report(NO_POINTS, f"{place}lines", 0, "the file has no click", "Add a line for every object")


def _mark(cells: list[str], table: _Table, where: str, report: FaultReport) -> Mark | None:
    texts = cells[table.x], cells[table.y]
    if table.wkt:
        point = _POINT.fullmatch(texts[0])
        if point is None:
            report(MALFORMED, f"{where}, geometry", texts[0], "which is not POINT (x y)", _NUMBER_HINT)
            return None
        texts = point.group(1), point.group(2)
    x, y = (
        _number(f"{where}, {axis}", text.replace(",", ".") if table.decimal_comma else text, report)
        for axis, text in zip("xy", texts, strict=True)
    )
    if x is None or y is None:
        return None
    category = None if table.category is None else cells[table.category]
    mark = Mark(x, y, category, where)
    return mark if table.id is None else mark._replace(point_id=_point_id(where, cells[table.id], report))


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


def _table_of(header: list[str], where: str, separator: str, file: PointsFile, report: FaultReport) -> _Table | None:
    """The table that a header announces; None if that was reported as a fault."""
    results = bool(header) and not header[0] and {"x", "y"} <= set(header)
    names = dict(_COLUMNS)
    if results:
        names |= {"file_name": ("label",), "category": ("counter", "type", "class", "category")}
    axes = sorted(name for name in header if _AXIS.fullmatch(name))
    if len(axes) >= 2:  # further axes, of time or depth, stand before those of the image
        names |= {"y": (axes[-2],), "x": (axes[-1],)}
    wkt = "geometry" in header and not {"x", "y"} & set(header)
    if wkt:
        names |= {"x": ("geometry",), "y": ("geometry",)}
    places: dict[str, int | None] = {}
    for column, known in names.items():
        found = [place for place, name in enumerate(header) if name in known]
        exact = [place for place in found if header[place] == column]
        one = (exact or found)[0] if len(exact or found) == 1 else None
        if one is None and (found or not _may_miss(column, file)):
            problem = f"in which the column '{column}' is {'doubled' if found else 'missing'}"
            hint = _NO_CATEGORY_HINT if column == "category" and not found else None
            report(_HEADER, where, ",".join(header), problem, hint)
            return None
        places[column] = one
    if header.count(_ID) > 1:
        report(_HEADER, where, ",".join(header), f"in which the column '{_ID}' is doubled")
        return None
    return _Table(
        form=_RESULTS if results else _NAPARI if axes else _kind_of(header),
        file_name=places["file_name"],
        x=places["x"] or 0,
        y=places["y"] or 0,
        category=places["category"],
        id=header.index(_ID) if _ID in header else None,
        columns=len(header),
        wkt=wkt,
        decimal_comma=separator != ",",
    )


def _may_miss(column: str, file: PointsFile) -> bool:
    """Whether a table can do without a column: the file's name tells the photograph, an option the class."""
    if column == "file_name":
        return file.photographs.photograph_of(file.path) is not None
    return column == "category" and file.category is not None


def _kind_of(header: list[str]) -> ClickForm:
    kinds = (("survey id", "DotDotGoose"), ("images", "HerdNet"), ("image_path", "DeepForest"))
    return next((ClickForm(f"{name} table") for column, name in kinds if column in header), _CSV)


def _point_id(where: str, text: str, report: FaultReport) -> int:
    """A whole number, also 12.0, as spreadsheets write it."""
    whole = re.fullmatch(r"([+-]?\d{1,18})(?:[.,]0{1,2})?", text)
    if whole is None:
        report(POINT_IDS, f"{where}, {_ID}", text, "which is not a whole number")
        return UNKNOWN_ID
    return int(whole.group(1))


def _number(field: str, text: str, report: FaultReport) -> float | None:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if math.isfinite(value):
        return value
    report(MALFORMED, field, text, "which is not a finite number", _NUMBER_HINT)
    return None
