"""How well chosen masks cover the objects they were meant for."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sapnet_pipe.data.coco.instances import ImageRecord, InstanceAnnotation, counts_of
from sapnet_pipe.data.coco.masks import rle_area, rle_box, rle_iou
from sapnet_pipe.data.errors import UserError
from sapnet_pipe.data.evaluation.objects import ObjectMatch

_SMALL, _MEDIUM = 32**2, 96**2  # COCO's bounds on a mask's area in square pixels
_TOUCH = 1.0  # pixels between the boxes of objects that count as one group


@dataclass(frozen=True)
class Quality:
    """Mean IoU and the share of masks of IoU >= 0.5 and >= 0.75 over `count` objects; zeros if there is none."""

    count: int
    miou: float
    share_50: float
    share_75: float


@dataclass(frozen=True)
class MaskQuality:
    """Quality of the masks that have a truth, over all and by kind of object.

    Attributes:
        miou, share_50, share_75, count: Over every matched mask.
        by_size: ``small`` (under 32 x 32 pixels of true mask), ``medium`` (under 96 x 96), ``large``.
        by_group: ``in_group`` where another object of the same class touches or overlaps the object (their boxes come
            within a pixel of each other), else ``alone``.
        by_id, by_click: How many masks found their object in either way (`data.evaluation.objects`).
        missing: True objects (no crowds) without a mask; not part of the means.
        extra: Masks of no true object; not part of the means.
    """

    miou: float
    share_50: float
    share_75: float
    count: int
    by_size: dict[str, Quality]
    by_group: dict[str, Quality]
    by_id: int
    by_click: int
    missing: int
    extra: int

    def to_dict(self) -> dict[str, Any]:
        """The same as plain numbers for JSON."""
        return asdict(self)


def mask_quality(
    pred: Mapping[int, bytes], match: ObjectMatch, *, source: str | PathLike[str] = "labels"
) -> MaskQuality:
    """Compare each mask with its true object.

    Args:
        pred: Compressed counts by the ids that `match` knows, in the size of the truth's images.
        match: The true object of each id; crowds are left aside.
        source: What to blame for a damaged mask.
    Raises: UserError for a mask that does not fit its image.
    """
    truth = match.truth
    objects = [annotation for annotation in truth.annotations if not annotation.iscrowd]
    true_counts = {}
    for annotation in objects:
        image = truth.images[annotation.image_id]
        true_counts[annotation.annotation_id] = counts_of(annotation, image, file=truth.source)
    own_id = {true_id: object_id for object_id, true_id in match.found.items() if object_id in pred}
    matched = [annotation for annotation in objects if annotation.annotation_id in own_id]
    rows = []
    for annotation in matched:
        true_mask, image = true_counts[annotation.annotation_id], truth.images[annotation.image_id]
        object_id = own_id[annotation.annotation_id]
        overlap = _iou(pred[object_id], true_mask, image, source, object_id)
        rows.append((overlap, rle_area(true_mask, image.height, image.width)))
    iou = np.array([row[0] for row in rows], np.float64)
    area = np.array([row[1] for row in rows], np.int64)
    grouped_ids = _ids_in_groups(objects, true_counts, truth.images)
    grouped = np.array([annotation.annotation_id in grouped_ids for annotation in matched], np.bool_)
    every = _quality(iou)
    return MaskQuality(
        miou=every.miou,
        share_50=every.share_50,
        share_75=every.share_75,
        count=every.count,
        by_size={
            "small": _quality(iou[area < _SMALL]),
            "medium": _quality(iou[(area >= _SMALL) & (area < _MEDIUM)]),
            "large": _quality(iou[area >= _MEDIUM]),
        },
        by_group={"in_group": _quality(iou[grouped]), "alone": _quality(iou[~grouped])},
        **match.counts(),
    )


def _iou(mask: bytes, true_mask: bytes, image: ImageRecord, source: str | PathLike[str], object_id: int) -> float:
    try:
        return float(rle_iou([mask], [true_mask], image.height, image.width)[0, 0])
    except ValueError as error:
        field = f"annotation {object_id}.segmentation"
        hint = "Give masks in the size of the truth's images"
        raise UserError(source, field, mask, f"which does not fit image {image.image_id} ({error})", hint) from error


def _quality(iou: NDArray[np.float64]) -> Quality:
    if not len(iou):
        return Quality(0, 0.0, 0.0, 0.0)
    return Quality(len(iou), float(iou.mean()), float((iou >= 0.5).mean()), float((iou >= 0.75).mean()))


def _ids_in_groups(
    objects: list[InstanceAnnotation], true_counts: Mapping[int, bytes], images: Mapping[int, ImageRecord]
) -> set[int]:
    """Ids of the objects whose box comes within a pixel of the box of another object of their class and image."""
    families: dict[tuple[int, int], list[int]] = {}
    boxes = {}
    for annotation in objects:
        image = images[annotation.image_id]
        boxes[annotation.annotation_id] = rle_box(true_counts[annotation.annotation_id], image.height, image.width)
        families.setdefault((annotation.image_id, annotation.category_id), []).append(annotation.annotation_id)
    grouped: set[int] = set()
    for family in families.values():
        if len(family) > 1:
            near = _near(np.stack([boxes[annotation_id] for annotation_id in family]))
            grouped.update(np.array(family)[near].tolist())
    return grouped


def _near(boxes_xyxy: NDArray[np.float32]) -> NDArray[np.bool_]:
    """(N, 4) XYXY -> (N,) whether a box that is not empty comes within `_TOUCH` of another such box."""
    gap = boxes_xyxy[:, None, :2] - boxes_xyxy[None, :, 2:]
    near = (gap <= _TOUCH).all(axis=2)
    filled = boxes_xyxy[:, 2] > boxes_xyxy[:, 0]
    pairs = near & near.T & filled[:, None] & filled[None, :]
    np.fill_diagonal(pairs, False)
    return np.asarray(pairs.any(axis=1))
