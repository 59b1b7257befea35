"""COCO-like JSON files of clicks, in any of the forms of `json_forms`. Boxes and masks in them are not looked at."""

from typing import Any

from sapnet_pipe.data.coco.document import CROWD, UNKNOWN_ID, ImageRecord, parse_document
from sapnet_pipe.data.errors import FaultKind, FaultReport
from sapnet_pipe.data.points.click_file import (
    MALFORMED,
    NO_POINTS,
    Click,
    ClickFile,
    PointsFile,
    SizeOf,
    moved_inside,
)
from sapnet_pipe.data.points.json_forms import MalformedClick, form_of

_UNPOINTED = FaultKind(
    "annotations-without-point", "annotations have no point and are left out", "Add them", error=False
)


def recognises(file: PointsFile) -> bool:
    """Every file that is of no other format: reading it tells what is wrong with it."""
    return True


def read(file: PointsFile, size_of: SizeOf | None, report: FaultReport) -> ClickFile:
    """One click per annotation; crowds, and annotations without a click, are left out and counted."""
    document = parse_document(file.path, file.json, report, size_of)
    found = ClickFile(file.path, document.images, document.categories, document=document)
    for index, entry in document.entries():
        if entry.get("iscrowd"):
            found.dropped["crowd"] += 1
            report(CROWD, f"annotations[{index}].iscrowd", entry["iscrowd"], "so it is left out")
            continue
        click = click_of(index, entry, document.image_of(entry), report)
        if click is None:
            found.dropped["without_point"] += 1
            continue
        found.dropped["points_moved_inside"] += click.moved
        if click.further:
            found.dropped["further_points"] += click.further
        found.clicks.append(click)
    if not found.clicks and document.annotations:
        _report_no_points(found, len(document.annotations), report)
    found.taken_for = " and ".join(sorted({click.form.name for click in found.clicks}))
    return found


def click_of(index: int, entry: dict[str, Any], image: ImageRecord | None, report: FaultReport) -> Click | None:
    """The click of annotation `index` of a file, which must not be a crowd; None if it has none of any known form."""
    where, form = f"annotations[{index}].", form_of(entry)
    try:
        spot = form.spot_of(entry) if form else None
    except MalformedClick as error:
        report(MALFORMED, where + error.field, error.value, error.problem, error.hint)
        return None
    if form is None or spot is None:
        report(_UNPOINTED, f"{where}point", None, "so it is left out")
        return None
    category_id: Any = entry.get("category_id")
    click = Click(
        UNKNOWN_ID if image is None else image.image_id,
        entry.get("id", UNKNOWN_ID),
        category_id if type(category_id) in (int, str) else UNKNOWN_ID,
        spot.x,
        spot.y,
        form,
        index,
        spot.field,
        spot.further,
    )
    if image is None or click.is_in(image):
        return click
    fields = f"{where}{spot.field}[{spot.place}]", f"{where}{spot.field}[{spot.place + 1}]"
    return moved_inside(click, image, fields, report)


def _report_no_points(found: ClickFile, count: int, report: FaultReport) -> None:
    if found.dropped["crowd"] == count:
        problem, hint = "all of them crowds", "Give a point per single object"
    else:
        problem = "none of which has a point"
        hint = "Make points from the masks with `sapnet-pipe points`, or add point: [x, y]"
    report(NO_POINTS, "annotations", f"{count} annotations", problem, hint)
