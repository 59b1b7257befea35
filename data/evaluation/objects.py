"""Which true object each click, or each label, is of.

An object is found by its id only where photograph and category agree too and the click lies on the object or close to
it: ids of other files (the line numbers of a table, for example) are numbers like any others. All others are found by
their click, within photograph and category: of the masks that hold it the smallest, every object once.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from sapnet_pipe.data.coco.document import is_number
from sapnet_pipe.data.coco.instances import InstanceAnnotation, InstanceDataset, counts_of
from sapnet_pipe.data.coco.masks import decode_mask, rle_area, rle_box, rle_contains
from sapnet_pipe.data.errors import UserError
from sapnet_pipe.data.evaluation.identity import Alignment, align
from sapnet_pipe.data.points.sampling import center

_NEAR = 5.0  # pixels around an object's box


class Clicked(NamedTuple):
    """A thing to be found in the truth, in the ids of its own file.

    Attributes:
        x, y: A click on it, in pixels of the image.
        made: Whether the click was made from its mask, so that it says nothing where that mask is wrong.
    """

    object_id: int
    image_id: int
    category_id: int
    x: float
    y: float
    made: bool = False


@dataclass(frozen=True)
class ObjectMatch:
    """What was found.

    Attributes:
        truth: In whose ids; one entry for every photograph.
        found: Object id -> annotation id in the truth.
        by_id, by_click: How many were found in either way.
        missing: True objects (no crowds) that nothing was found for.
        extra: Objects that the truth does not have.
        notes: What the user should know, one line each.
    """

    truth: InstanceDataset
    found: Mapping[int, int]
    by_id: int
    by_click: int
    missing: int
    extra: int
    notes: tuple[str, ...] = ()

    def counts(self) -> dict[str, int]:
        """The four figures by name."""
        return {"by_id": self.by_id, "by_click": self.by_click, "missing": self.missing, "extra": self.extra}


def match_objects(clicks: Iterable[Clicked], alignment: Alignment) -> ObjectMatch:
    """Find every object in the truth.

    Raises: UserError if none is found, or for a true mask that is missing or malformed.
    """
    truth = alignment.truth
    objects: dict[tuple[int, int], list[InstanceAnnotation]] = {}
    for annotation in truth.annotations:
        if not annotation.iscrowd:
            objects.setdefault((annotation.image_id, annotation.category_id), []).append(annotation)
    groups: dict[tuple[int, int], list[Clicked]] = {}
    by_id, by_click, every = dict[int, int](), dict[int, int](), list[Clicked]()
    for click in clicks:
        every.append(click)
        key = alignment.image_ids.get(click.image_id), alignment.category_ids.get(click.category_id)
        if key[0] is not None and key[1] is not None:
            groups.setdefault((key[0], key[1]), []).append(click)
    for place, group in groups.items():
        _match_group(group, objects.get(place, []), truth, by_id, by_click)
    found = by_id | by_click
    count = sum(len(group) for group in objects.values())
    if every and not found:
        problem = f"none of which holds any of {len(every)} clicks of its photograph and category, or has its id"
        raise UserError(truth.source, "annotations", f"{count} objects", problem, "Give the truth of these objects")
    lost = [click for click in every if click.object_id not in found]
    notes = list(alignment.notes)
    if by_click:
        notes.append(f"{len(by_click)} of {len(every)} objects were found by click, as their ids are not the truth's.")
    if lost:
        notes.append(
            f"{len(lost)} objects are not in {truth.source} and do not count "
            f"(first id {lost[0].object_id}, image {lost[0].image_id})."
        )
    return ObjectMatch(truth, found, len(by_id), len(by_click), count - len(found), len(lost), tuple(notes))


def match_labels(labels: InstanceDataset, truth: InstanceDataset) -> tuple[dict[int, bytes], ObjectMatch]:
    """The compressed counts of every label (no crowds) by its id, and their true objects.

    A label has its click in ``point``; where its file gives none, the middle of its mask stands for it.

    Raises: UserError as `match_objects`, and for a label whose mask is missing or malformed.
    """
    objects = [annotation for annotation in labels.annotations if not annotation.iscrowd]
    used = {annotation.category_id for annotation in objects}
    categories = [category for category in labels.categories if category.category_id in used]
    alignment = align(labels.images.values(), categories, truth, source=labels.source)
    masks, clicks = {}, []
    for annotation in objects:
        image = labels.images[annotation.image_id]
        counts = masks[annotation.annotation_id] = counts_of(annotation, image, file=labels.source)
        clicks.append(_clicked(annotation, counts, image.height, image.width))
    return masks, match_objects(clicks, alignment)


def _clicked(annotation: InstanceAnnotation, counts: bytes, height: int, width: int) -> Clicked:
    ids = annotation.annotation_id, annotation.image_id, annotation.category_id
    point = annotation.extra.get("point")
    if isinstance(point, list) and len(point) == 2 and all(map(is_number, point)):
        return Clicked(*ids, float(point[0]), float(point[1]))
    mask = decode_mask(counts, height, width)
    if not mask.any():
        return Clicked(*ids, -1.0, -1.0, made=True)
    row, column = center(mask, np.random.default_rng(0))
    return Clicked(*ids, column + 0.5, row + 0.5, made=True)


def _match_group(
    clicks: list[Clicked],
    objects: list[InstanceAnnotation],
    truth: InstanceDataset,
    by_id: dict[int, int],
    by_click: dict[int, int],
) -> None:
    """Add what is found among the objects of one photograph and category."""
    if not objects:
        return
    image = truth.images[objects[0].image_id]
    size = image.height, image.width
    counts = [counts_of(annotation, image, file=truth.source) for annotation in objects]
    xy = np.array([(click.x, click.y) for click in clicks], np.float32)
    holds = np.array([rle_contains(code, *size, xy) for code in counts])  # (objects, clicks)
    rows = {annotation.annotation_id: row for row, annotation in enumerate(objects)}
    free, open_columns = set(range(len(objects))), set(range(len(clicks)))

    def take(column: int, row: int, found: dict[int, int]) -> None:
        found[clicks[column].object_id] = objects[row].annotation_id
        free.remove(row)
        open_columns.remove(column)

    for column, click in enumerate(clicks):
        row = rows.get(click.object_id)
        if row is not None and (holds[row, column] or (not holds[:, column].any() and _near(click, counts[row], size))):
            take(column, row, by_id)
    areas = [rle_area(code, *size) for code in counts]
    pairs = [(areas[row], clicks[column].y, clicks[column].x, row, column) for row, column in np.argwhere(holds)]
    for *_, row, column in sorted(pairs):
        if row in free and column in open_columns:
            take(column, row, by_click)
    for column, click in enumerate(clicks):  # a wrong mask with the right id is a wrong mask, not another object
        row = rows.get(click.object_id)
        if click.made and row in free and column in open_columns:
            take(column, row, by_id)


def _near(click: Clicked, counts: bytes, size: tuple[int, int]) -> bool:
    left, top, right, bottom = rle_box(counts, *size).tolist()
    return left - _NEAR <= click.x <= right + _NEAR and top - _NEAR <= click.y <= bottom + _NEAR
