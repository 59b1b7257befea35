"""CSV with a header: ``file_name,x,y,category``, one click a line, further columns ignored.

Spreadsheets of many countries write semicolons between the columns and commas before the decimals: where the header is
parted by semicolons or tabs, so are the lines, and 12,5 is 12.5.

Image ids are given in ascending order of the file names and category ids in ascending order of the names, both from 1;
a point's id is the number of its data line. Image sizes are read from the image folder, as viewers show the images.
"""

import csv
import itertools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from sapnet_pipe.data.coco.document import check_file_name
from sapnet_pipe.data.coco.instances import Category, ImageRecord
from sapnet_pipe.data.errors import UserError
from sapnet_pipe.data.files import disk_errors, resolve_inside
from sapnet_pipe.data.images import image_size
from sapnet_pipe.data.points.point_set import PointSet, build_point_set

SEPARATORS = (",", ";", "\t")
COLUMNS = ("file_name", "x", "y", "category")


class _Row(NamedTuple):
    line: int
    file_name: str
    x: float
    y: float
    category: str


def read_csv(path: Path, images_dir: Path | None) -> PointSet:
    """Read clicks from a CSV file.

    Raises: UserError naming the line and the column at fault.
    """
    if images_dir is None:
        hint = "Name the image folder, from which the sizes of the images are read"
        raise UserError(path, "images", None, "but a CSV file holds no image sizes", hint)
    rows = list(_rows(path))
    if not rows:
        raise UserError(path, "lines", 0, "the file has no click", "Add a line for every object")
    images = _images(path, rows, images_dir)
    names = sorted({row.category for row in rows})
    category_id = {name: index for index, name in enumerate(names, 1)}
    by_name = {image.file_name: image for image in images.values()}
    table = []
    for number, row in enumerate(rows, 1):
        image = by_name[row.file_name]
        _check_inside(path, row, image)
        table.append((image.image_id, number, category_id[row.category], row.x, row.y))
    categories = tuple(Category(index, name) for name, index in category_id.items())
    return build_point_set(path, images, categories, table, {"crowd": 0, "without_point": 0, "points_moved_inside": 0})


def _rows(path: Path) -> Iterator[_Row]:
    try:
        with disk_errors(path), path.open(newline="", encoding="utf-8-sig") as file:
            first = file.readline()
            separator = max(SEPARATORS, key=first.count)
            lines = csv.reader(itertools.chain([first], file), delimiter=separator)
            header = [name.strip().lower() for name in next(lines, [])]
            for column in COLUMNS:
                if header.count(column) != 1:
                    problem = f"in which the column '{column}' is {'doubled' if column in header else 'missing'}"
                    hint = f"Start the file with the line {','.join(COLUMNS)}"
                    raise UserError(path, "line 1", ",".join(header), problem, hint)
            places = [header.index(column) for column in COLUMNS]
            for cells in lines:
                if any(cell.strip() for cell in cells):
                    yield _row(path, lines.line_num, cells, places, len(header), comma=separator != ",")
    except UnicodeDecodeError as error:
        raise UserError(
            path, "content", error.object[:40], "which is not UTF-8 text", "Save the file as UTF-8"
        ) from error
    except csv.Error as error:
        raise UserError(path, "content", str(error), "which is not CSV", "Write the file again") from error


def _row(path: Path, line: int, cells: list[str], places: list[int], columns: int, *, comma: bool) -> _Row:
    """One click; `comma` says that a comma stands before decimals."""
    if len(cells) != columns:
        problem = f"which has {len(cells)} columns, but the first line has {columns}"
        raise UserError(path, f"line {line}", ",".join(cells), problem, "Quote names that hold a separator")
    name, x, y, category = (cells[place].strip() for place in places)
    if comma:
        x, y = x.replace(",", "."), y.replace(",", ".")
    check_file_name(path, f"line {line}, file_name", name)
    if not category:
        raise UserError(path, f"line {line}, category", category, "which is empty", "Name the object's category")
    return _Row(line, name, _number(path, line, "x", x), _number(path, line, "y", y), category)


def _number(path: Path, line: int, column: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        hint = "Give original pixels, with a point before the decimals"
        raise UserError(path, f"line {line}, {column}", text, "which is not a finite number", hint)
    return value


def _images(path: Path, rows: list[_Row], images_dir: Path) -> dict[int, ImageRecord]:
    if not images_dir.is_dir():
        raise UserError(images_dir, "images", str(images_dir), "which is not a folder", "Name the image folder")
    first_line: dict[str, int] = {}
    for row in rows:
        first_line.setdefault(row.file_name, row.line)
    images = {}
    for image_id, name in enumerate(sorted(first_line), 1):
        field = f"line {first_line[name]}, file_name"
        height, width = image_size(resolve_inside(images_dir, name, file=path, field=field), file=path, field=field)
        images[image_id] = ImageRecord(image_id, name, height, width)
    return images


def _check_inside(path: Path, row: _Row, image: ImageRecord) -> None:
    for column, value, size, word in (("x", row.x, image.width, "wide"), ("y", row.y, image.height, "high")):
        if not 0 <= value < size:
            problem = f"but image {image.file_name} is {size} {word}"
            raise UserError(path, f"line {row.line}, {column}", value, problem, "Give points in original pixels")
