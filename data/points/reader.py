"""Reading points in whichever form they come, and writing them in ours."""

from collections import Counter
from pathlib import Path
from typing import Any

from sapnet_pipe.data.coco.document import CocoDocument, ImageRecord, read_document
from sapnet_pipe.data.errors import UserError
from sapnet_pipe.data.json_files import write_coco
from sapnet_pipe.data.points.click import Click, MalformedClick
from sapnet_pipe.data.points.csv_clicks import read_csv
from sapnet_pipe.data.points.forms import form_of
from sapnet_pipe.data.points.point_set import PointSet, build_point_set

__all__ = ["PointSet", "point_of", "read_points", "write_points"]


def read_points(path: Path, images_dir: Path | None = None) -> PointSet:
    """Read one point per object from COCO JSON (`point`), P2BNet/SAPNet coarse files, PointSup, COCO keypoints, or CSV.

    Boxes and masks in the file are not looked at. Crowd annotations and those without a point are left out and counted.

    Args:
        images_dir: Image folder; needed for CSV files, which hold no image sizes.
    Raises: UserError naming file, field, value and hint; also if no annotation has a point.
    """
    path = Path(path)
    if path.suffix.lower() == ".csv":
        return read_csv(path, images_dir)
    document = read_document(path)
    rows: list[tuple[int, int, int, float, float]] = []
    dropped = Counter(crowd=0, without_point=0, points_moved_inside=0)
    for index, entry in enumerate(document.annotations):
        if entry.get("iscrowd"):
            dropped["crowd"] += 1
            continue
        point = point_of(path, index, entry, document.images[entry["image_id"]])
        if point is None:
            dropped["without_point"] += 1
            continue
        x, y, moved = point
        dropped["points_moved_inside"] += moved
        rows.append((entry["image_id"], entry["id"], entry["category_id"], x, y))
    if not rows:
        raise _no_points(document, dropped)
    return build_point_set(path, document.images, document.categories, rows, dict(dropped))


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


def point_of(path: Path, index: int, entry: dict[str, Any], image: ImageRecord) -> tuple[float, float, bool] | None:
    """The click of annotation `index` of a file: x, y in original pixels, and whether it was moved to the border.

    Returns: None if the annotation has no click of any known form.
    Raises: UserError if it cannot be understood or lies outside its image.
    """
    click = _click(path, index, entry)
    return None if click is None else _placed(path, index, click, image)


def _click(path: Path, index: int, entry: dict[str, Any]) -> Click | None:
    form = form_of(entry)
    try:
        return form.click_of(entry) if form else None
    except MalformedClick as error:
        where = f"annotations[{index}].{error.field}"
        raise UserError(path, where, error.value, error.problem, error.hint) from error


def _placed(path: Path, index: int, click: Click, image: ImageRecord) -> tuple[float, float, bool]:
    """The click in our frame, and whether it had to be moved to the border; UserError if it lies outside."""
    if 0 <= click.x < image.width and 0 <= click.y < image.height:
        return click.x + click.shift, click.y + click.shift, False
    sides = ((click.x, click.x_field, image.width, "wide"), (click.y, click.y_field, image.height, "high"))
    for value, field, size, word in sides:
        if not -click.slack <= value < size + click.slack:
            problem = f"but image {image.image_id} is {size} {word}"
            raise UserError(path, f"annotations[{index}].{field}", value, problem, "Give points in original pixels")
    return max(click.x, 0.0), max(click.y, 0.0), True


def _no_points(document: CocoDocument, dropped: Counter[str]) -> UserError:
    count = f"{len(document.annotations)} annotations"
    if dropped["crowd"] == len(document.annotations):
        return UserError(document.source, "annotations", count, "all of them crowds", "Give a point per single object")
    hint = "Make points from the masks with `sapnet-pipe points`, or add point: [x, y]"
    return UserError(document.source, "annotations", count, "none of which has a point", hint)
