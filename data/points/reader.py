"""Reading points in whichever format they come, and writing them in ours."""

from pathlib import Path

from sapnet_pipe.data.errors import FaultReport, UserError
from sapnet_pipe.data.json_files import write_coco
from sapnet_pipe.data.photo_names import sizes_in
from sapnet_pipe.data.points import coco_clicks, csv_clicks
from sapnet_pipe.data.points.click_file import ClickFile, PointFormat, PointsFile, SizeOf
from sapnet_pipe.data.points.point_set import PointSet, build_point_set
from sapnet_pipe.data.points.tool_file import PointsFolder, ToolReader, points_file
from sapnet_pipe.data.points.tools import (
    cell_counter,
    cvat,
    darwin,
    dot_images,
    dotdotgoose,
    fiftyone,
    geojson,
    label_studio,
    labelme,
    via,
)

__all__ = ["FORMATS", "PointSet", "read_clicks", "read_line", "read_points", "write_points"]

# The first that recognises a file reads it; the last takes whatever is left.
FORMATS: dict[str, PointFormat] = {
    "via": ToolReader(via),
    "csv": csv_clicks,
    "labelme": ToolReader(labelme),
    "label-studio": ToolReader(label_studio),
    "cvat": ToolReader(cvat),
    "cell-counter": ToolReader(cell_counter),
    "dotdotgoose": ToolReader(dotdotgoose),
    "geojson": ToolReader(geojson),
    "darwin": ToolReader(darwin),
    "fiftyone": ToolReader(fiftyone),
    "dot-images": ToolReader(dot_images),
    "coco": coco_clicks,
}

_LAST = "coco"
_SEVERAL, _LARGE = 3, 32  # clicks that differ, and pixels of a side


def read_points(
    path: Path, images_dir: Path | None = None, *, form: str | None = None, category: str | None = None
) -> PointSet:
    """Read one point per object from a file of any form in `FORMATS`, or from a folder of such files.

    Boxes and masks in the file are not looked at. Crowd annotations and those without a point are left out and counted.

    Args:
        images_dir: Image folder; needed where the file holds no image sizes, as CSV files.
        form: Name of the form; by default it is told by the content.
        category: Of the points for which the file names none.
    Raises: UserError naming file, field, value and hint; also if no annotation has a point, or all are fractions.
    """
    path = Path(path)
    report = FaultReport(path)
    file = points_file(path, images_dir, category)
    found = read_clicks(file, None if images_dir is None else sizes_in(images_dir, path), report, form=form)
    _refuse_fractions(found)
    rows = [(click.image_id, click.point_id, click.category_id, *click.xy) for click in found.clicks]
    images, dropped, notes = found.images, dict(found.dropped), report.notes()
    return build_point_set(path, images, found.categories, rows, dropped, notes, file.sha256, taken_for=found.taken_for)


def _refuse_fractions(found: ClickFile) -> None:
    """UserError if all of several clicks lie in the first pixel of large photographs: they are shares of the sides."""
    clicks = [(click.x, click.y) for click in found.clicks]
    if len(set(clicks)) < _SEVERAL or not all(0 <= value <= 1 for xy in clicks for value in xy):
        return
    if min(min(image.height, image.width) for image in found.images.values()) >= _LARGE:
        problem = "as are all of them, so that they seem to be shares of width and height, not pixels"
        hint = "Multiply them, or let `sapnet-pipe doctor --write-fixed` do it"
        raise UserError(found.source, found.where(found.clicks[0]), list(clicks[0]), problem, hint)


def read_line(points: PointSet) -> str:
    """What a file of points was taken for and what was found in it, in one line."""
    found = f"{len(points)} points, {len(points.categories)} classes, {len(points.images)} photographs"
    left_out = [f"{number} {reason.replace('_', ' ')}" for reason, number in points.dropped.items() if number]
    rest = f" ({', '.join(left_out)})" if left_out else ""
    return f"Read {points.source} as {points.taken_for}: {found}{rest}."


def read_clicks(file: PointsFile, size_of: SizeOf | None, report: FaultReport, *, form: str | None = None) -> ClickFile:
    """Read the clicks of a file of any form; see `PointFormat.read`. UserError for a `form` that is not known."""
    if form is not None and form not in FORMATS:
        raise UserError("--points-format", "form", form, "which is not known", f"Choose {', '.join(FORMATS)}")
    if form == _LAST and isinstance(file, PointsFolder):
        raise UserError(file.path, "--points", str(file.path), "which is a folder", "Name a COCO file")
    if form is not None:
        return FORMATS[form].read(file, size_of, report)
    if not isinstance(file, PointsFolder):
        return next(one for one in FORMATS.values() if one.recognises(file)).read(file, size_of, report)
    found = [name for name, one in FORMATS.items() if name != _LAST and one.recognises(file)]
    if len(found) != 1:
        problem = f"which is a folder with files of {' and '.join(found) or 'no'} form"
        hint = "Name a file, or the form by --points-format"
        raise UserError(file.path, "--points", str(file.path), problem, hint)
    return FORMATS[found[0]].read(file, size_of, report)


def write_points(path: Path, points: PointSet) -> None:
    """Write points as COCO JSON with ``point: [x, y]``; reading them back gives the same float32 coordinates."""
    # The shortest decimals that name each float32, rather than its float64 expansion.
    xy = points.xy.astype(str).astype(float).tolist()
    ids = zip(points.point_id.tolist(), points.image_id.tolist(), points.category_id.tolist(), xy, strict=True)
    write_coco(
        path,
        info={"description": "One point per object, in original-image pixels", "left_out": points.dropped},
        images=points.images.values(),
        categories=points.categories,
        annotations=(
            {"id": point_id, "image_id": image_id, "category_id": category_id, "point": point, "iscrowd": 0}
            for point_id, image_id, category_id, point in ids
        ),
    )
