"""The points of a file with everything put right that can be: what `doctor --write-fixed` writes.

What can be put right, and how, is written beside each kind of fault (`FaultKind.fix`). Clicks that nothing can be made
of are left out, like the readers' crowds; faults of images and categories, and of the file as such, stay errors.
"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path

from sapnet_pipe.data.checks.boxes import check_boxes_of_clicks
from sapnet_pipe.data.checks.clicks import FRACTIONS, PERCENT, SWAPPED, TWICE, misreading
from sapnet_pipe.data.checks.findings import Findings
from sapnet_pipe.data.checks.photographs import SWAPPED_SIZE
from sapnet_pipe.data.coco.document import MAX_ID, ImageRecord
from sapnet_pipe.data.errors import FaultKind, FaultReport, UserError
from sapnet_pipe.data.images import image_sizes
from sapnet_pipe.data.photo_names import check_spelling, find_photograph, sizes_in
from sapnet_pipe.data.points.click_file import NO_POINTS, OUTSIDE, Click, ClickFile, moved_inside
from sapnet_pipe.data.points.point_set import PointSet, build_point_set
from sapnet_pipe.data.points.reader import read_clicks
from sapnet_pipe.data.points.tool_file import points_file


class _Mended(FaultReport):
    """Counts what is put right; what cannot be is raised."""

    def __call__(self, kind: FaultKind, field: str, value: object, problem: str, hint: str | None = None) -> None:
        if kind.fix:
            kind, hint = replace(kind, error=False, mended=True, hint=kind.fix), None
        super().__call__(kind, field, value, problem, hint)


class _ButOutside(_Mended):
    """Passes over clicks outside their images, which cannot be told before their unit is known."""

    def __call__(self, kind: FaultKind, field: str, value: object, problem: str, hint: str | None = None) -> None:
        if kind != OUTSIDE:
            super().__call__(kind, field, value, problem, hint)


def mend_points(
    path: Path, images_dir: Path | None, *, form: str | None = None, category: str | None = None
) -> PointSet:
    """Read a points file of any form and put right what can be; `notes` counts it by kind.

    Args:
        images_dir: Image folder, for what only the photographs tell: sizes and the spelling of their names.
        form, category: As `data.points.reader.read_points` takes them.
    Raises: UserError for what cannot be put right, and if no click is left.
    """
    reading, report = _ButOutside(path), _Mended(path)
    size_of = None if images_dir is None else sizes_in(images_dir, path)
    found = read_clicks(points_file(path, images_dir, category), size_of, reading, form=form)
    if images_dir is not None:
        found.images = {key: _as_photographed(image, images_dir, report) for key, image in found.images.items()}
    clicks = [*_with_own_ids(_once(_inside(_in_pixels(found, report), found, report), found, report), found)]
    if not clicks:
        raise UserError(path, "points", 0, "are left of the file", NO_POINTS.hint)
    rows = [(click.image_id, click.point_id, click.category_id, *click.xy) for click in clicks]
    dropped = dict(found.dropped) | {"points_moved_inside": sum(click.moved for click in clicks)}
    notes = (*reading.notes(), *report.notes())
    return build_point_set(path, found.images, found.categories, rows, dropped, notes)


def _as_photographed(image: ImageRecord, images_dir: Path, report: FaultReport) -> ImageRecord:
    """With the name that the photograph has, and with sides that were exchanged exchanged back."""
    field = f"image {image.image_id}.file_name"
    check_spelling(images_dir, {image.file_name: field}, report)
    photograph = find_photograph(images_dir, image.file_name, file=report.source, field=field)
    if not photograph.is_file():
        return image
    raw, turned = image_sizes(photograph)
    said = image.height, image.width
    if said not in (raw, turned) and said == turned[::-1]:
        report(SWAPPED_SIZE, field, image.file_name, "whose width and height are exchanged")
        said = turned
    return replace(image, file_name=photograph.relative_to(images_dir).as_posix(), height=said[0], width=said[1])


def _in_pixels(found: ClickFile, report: FaultReport) -> Iterator[Click]:
    """The clicks of known images and categories, in pixels and as x, y."""
    findings, categories = Findings(), {category.category_id for category in found.categories}
    boxes, misread = check_boxes_of_clicks(found.document, findings) if found.document else ({}, False)
    if misread:
        fault = findings.errors()[0]
        raise UserError(found.source, "annotations", fault.example, fault.kind.problem, fault.kind.hint)
    kind = misreading(found, boxes)
    share = None if kind is None else {PERCENT: 0.01, FRACTIONS: 1.0}.get(kind)
    for click in found.clicks:
        if click.image_id not in found.images or click.category_id not in categories:
            continue  # reported by the reader
        if kind is not None:
            report(kind, found.where(click), [click.x, click.y], "")
        width, height = found.images[click.image_id].width, found.images[click.image_id].height
        x, y = (click.y, click.x) if kind is SWAPPED else (click.x, click.y)
        yield click._replace(x=x, y=y) if share is None else click._replace(x=x * width * share, y=y * height * share)


def _inside(clicks: Iterator[Click], found: ClickFile, report: FaultReport) -> Iterator[Click]:
    """The clicks in their images, and those that are moved to the border."""
    for click in clicks:
        image, where = found.images[click.image_id], found.where(click)
        click = click._replace(moved=False)
        if not click.is_in(image):
            click = moved_inside(click, image, (where, where), report)
        if click.moved or click.is_in(image):
            yield click


def _once(clicks: Iterator[Click], found: ClickFile, report: FaultReport) -> Iterator[Click]:
    """Of clicks of one category in the same place the first."""
    seen = set[tuple[int, int, float, float]]()
    for click in clicks:
        key = click.image_id, click.category_id, *click.xy
        if key in seen:
            report(TWICE, found.where(click), [click.x, click.y], "which another has too")
            continue
        seen.add(key)
        yield click


def _with_own_ids(clicks: Iterator[Click], found: ClickFile) -> Iterator[Click]:
    """The clicks, each with an id of its own: its first bearer keeps it."""
    seen, taken = set[int](), {click.point_id for click in found.clicks}
    free = (number for number in count(1) if number not in taken)
    for click in clicks:
        whole = type(click.point_id) is int and -MAX_ID <= click.point_id <= MAX_ID
        click = click if whole and click.point_id not in seen else click._replace(point_id=next(free))
        seen.add(click.point_id)
        yield click
