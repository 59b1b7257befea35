"""One annotation of the authors' file to a bag, and back."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sapnet_pipe.data.authors_file.layout import (
    BOXES,
    MASKS,
    MASKS_PER_POINT,
    OURS,
    SCORES,
    SCORES_PER_POINT,
    Layout,
    is_box,
)
from sapnet_pipe.data.bag_store.masks import FIGURE_COLUMNS, MaskColumn, MaskColumns
from sapnet_pipe.data.bag_store.schema import Bag
from sapnet_pipe.data.boxes import xywh_to_xyxy, xyxy_to_xywh
from sapnet_pipe.data.coco.document import is_number
from sapnet_pipe.data.coco.instances import ImageRecord
from sapnet_pipe.data.coco.masks import rle_area
from sapnet_pipe.data.coco.segmentations import segmentation_to_counts
from sapnet_pipe.data.errors import UserError

# SAM's three masks of the click are its tokens 1, 2, 3; the others count as made by further prompts, as many as an int8
# can name.
SOURCES = (1, 2, 3, 4, 8, 12, *range(16, 128))
# What the authors' layout has no place for, and masks alone do not tell; written beside it and read back.
_KEPT = tuple(column for column in FIGURE_COLUMNS if not (column.from_rle or column.optional))
_BOX_SLACK = 2.0  # pixels by which a box of the file may differ from that of its mask
_CLICK_SIDE = 32.0  # of the made-up box around a click


@dataclass(frozen=True, slots=True)
class Place:
    """An annotation and where it stands, for messages."""

    path: Path
    index: int
    entry: Mapping[str, Any]

    def fault(self, field: str, value: object, problem: str, hint: str) -> UserError:
        return UserError(self.path, f"annotations[{self.index}].{field}", value, problem, hint)


def bag_of(
    place: Place, layout: Layout, image: ImageRecord, point_xy: tuple[float, float], dropped: Counter[str]
) -> Bag | None:
    """The bag of one annotation; None if no mask is left.

    Empty masks and exact repeats are left out and counted in `dropped`. Boxes that differ from those of their masks,
    and masks beyond the list of scores, are only counted. What is not known of a mask is 0, its score too, which puts
    it below those of SAM.

    Raises: UserError naming file, field, value and hint.
    """
    masks = _masks(place, layout)
    scores = _scores(place, layout, len(masks))
    given = len(scores)
    figures: dict[str, Any] = {column.field: np.zeros(len(masks), column.kind.to_pandas_dtype()) for column in _KEPT}
    figures["score"][:given], figures["source"][:] = scores, SOURCES[: len(masks)]
    ours = place.entry.get(OURS)
    if ours is not None:
        figures = _restored(place, ours, len(masks))
        given = len(figures["score"])
        masks = masks[:given]
    rle, kept = _different_masks(place, layout, masks, image, dropped)
    if not kept:
        return None
    figures = {name: values[kept] for name, values in figures.items()}
    columns = MaskColumns.from_rle(rle, image.height, image.width, **figures)
    dropped["masks_without_score"] += sum(index >= given for index in kept)
    dropped["boxes_that_differ"] += _differing_boxes(place, layout, kept, columns.box_xyxy)
    return Bag(
        image_id=image.image_id,
        file_name=image.file_name,
        height=image.height,
        width=image.width,
        point_id=place.entry["id"],
        category_id=place.entry["category_id"],
        point_xy=point_xy,
        masks=columns,
    )


def entry_of(bag: Bag) -> dict[str, Any]:
    """The annotation of a bag: its masks, repeated in order until they are six, as the authors' code needs them.

    `true_bbox` is made up around the click (their code takes its centre for the click).
    """
    masks = bag.masks
    taken = [index % len(masks) for index in range(max(MASKS_PER_POINT, len(masks)))]
    rles = [{"size": [bag.height, bag.width], "counts": rle.decode("ascii")} for rle in masks.rle]
    boxes = xyxy_to_xywh(masks.box_xyxy).tolist()
    kept = {column.field: _numbers(getattr(masks, column.field)) for column in _KEPT}
    x, y = _numbers(np.array(bag.point_xy, np.float32))
    around = [x - _CLICK_SIDE / 2, y - _CLICK_SIDE / 2, _CLICK_SIDE, _CLICK_SIDE]
    return {
        "id": bag.point_id,
        "image_id": bag.image_id,
        "category_id": bag.category_id,
        "iscrowd": 0,
        "point": [x, y],
        "true_bbox": around,
        "area": _CLICK_SIDE**2,
        MASKS: [rles[index] for index in taken],
        BOXES: [boxes[index] for index in taken],
        SCORES: [kept["score"][index] for index in taken[:SCORES_PER_POINT]],
        OURS: kept,
    }


def _masks(place: Place, layout: Layout) -> list[Any]:
    field = str(layout.masks)
    masks = place.entry.get(field)
    if type(masks) is not list or not 1 <= len(masks) <= len(SOURCES):
        shown = f"{len(masks)} masks" if isinstance(masks, list) else masks
        problem = f"which is not a list of 1 to {len(SOURCES)} masks"
        raise place.fault(field, shown, problem, "Give SAM's masks of the click, or drop the annotation")
    return masks


def _scores(place: Place, layout: Layout, masks: int) -> list[float]:
    """The file's scores, of its first masks."""
    scores = place.entry.get(layout.scores, []) if layout.scores else []
    if type(scores) is not list or len(scores) > masks:
        hint = "Give SAM's predicted IoU of the first masks"
        raise place.fault(str(layout.scores), scores, f"which is not a list of at most {masks} scores", hint)
    for index, score in enumerate(scores):
        if not is_number(score):
            field = f"{layout.scores}[{index}]"
            raise place.fault(field, score, "which is not a finite number", "Give SAM's predicted IoU")
    return list(map(float, scores))


def _restored(place: Place, ours: Any, masks: int) -> dict[str, NDArray[Any]]:
    """The columns of a bag that `entry_of` wrote, of its first masks: the others repeat them."""
    hint = f"Export the file again, or drop '{OURS}'"
    lists: dict[str, Any] = {
        column.field: ours.get(column.field) if isinstance(ours, dict) else None for column in _KEPT
    }
    size = len(lists["score"]) if isinstance(lists["score"], list) else 0
    if not 0 < size <= masks or not all(_are_numbers(lists[column.field], column, size) for column in _KEPT):
        raise place.fault(OURS, ours, f"which does not describe the {masks} masks of the annotation", hint)
    source = lists["source"]
    if sorted(set(source)) != source or not 0 <= source[0] <= source[-1] <= SOURCES[-1]:
        raise place.fault(f"{OURS}.source", source, f"which is not ascending within 0 to {SOURCES[-1]}", hint)
    return {column.field: np.array(lists[column.field], column.kind.to_pandas_dtype()) for column in _KEPT}


def _are_numbers(values: Any, column: MaskColumn, size: int) -> bool:
    """Whether a JSON value is a list of so many numbers, finite ones or whole ones as the column needs them."""
    if type(values) is not list or len(values) != size:
        return False
    is_whole = pa.types.is_integer(column.kind)
    return all(type(value) is int if is_whole else is_number(value) for value in values)


def _different_masks(
    place: Place, layout: Layout, masks: Sequence[Any], image: ImageRecord, dropped: Counter[str]
) -> tuple[list[bytes], list[int]]:
    """The masks that are neither empty nor a repeat, and their places."""
    kept: dict[bytes, int] = {}
    for index, mask in enumerate(masks):
        if not mask:
            dropped["empty_masks"] += 1
            continue
        field = f"annotations[{place.index}].{layout.masks}[{index}]"
        rle = segmentation_to_counts(mask, image.height, image.width, file=place.path, field=field)
        if not rle_area(rle, image.height, image.width):
            dropped["empty_masks"] += 1
        elif rle in kept:
            dropped["repeated_masks"] += 1
        else:
            kept[rle] = index
    return list(kept), list(kept.values())


def _differing_boxes(place: Place, layout: Layout, kept: Sequence[int], box_xyxy: NDArray[np.float32]) -> int:
    """How many of the file's boxes are, as XYXY and as XYWH, further than the slack from those of their masks."""
    boxes = place.entry.get(layout.boxes) if layout.boxes else None
    if boxes is None:
        return 0
    if type(boxes) is not list or not all(map(is_box, boxes)) or kept[-1] >= len(boxes):
        hint = "Give [x, y, width, height] or [x1, y1, x2, y2] of every mask"
        raise place.fault(str(layout.boxes), boxes, "which is not a list of a box for every mask", hint)
    given = np.array([boxes[index] for index in kept], np.float64)
    read_as = (given, xywh_to_xyxy(given))
    away = np.minimum(*(np.abs(boxes - box_xyxy).max(axis=1) for boxes in read_as))
    return int((away > _BOX_SLACK).sum())


def _numbers(values: NDArray[Any]) -> list[Any]:
    """As JSON numbers: of a float32 the shortest decimals that name it, rather than its float64 expansion."""
    return list((values.astype(str).astype(float) if values.dtype == np.float32 else values).tolist())
