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
_TOUCH = 1.0  # pixels between the boxes of objects that count as touching
CROWD = 2  # others that touch an object which stands in a crowd


@dataclass(frozen=True)
class Quality:
    """Mean IoU and the share of masks of IoU >= 0.5 and >= 0.75 over `count` objects; zeros if there is none."""

    count: int
    miou: float
    share_50: float
    share_75: float


@dataclass(frozen=True)
class ObjectOverlaps:
    """How well each object that has a mask is covered, one entry per object, in the truth's order.

    Attributes:
        object_id: (N,) int64, id of the mask. image_id: (N,) int64, of the truth.
        iou: (N,) float64, of the mask with the object. area: (N,) int64, of the object in square pixels.
        touching: (N,) int64, how many other objects of any class come within a pixel of its box.
        in_group: (N,) bool, whether one of them is of its own class.
    """

    object_id: NDArray[np.int64]
    image_id: NDArray[np.int64]
    iou: NDArray[np.float64]
    area: NDArray[np.int64]
    touching: NDArray[np.int64]
    in_group: NDArray[np.bool_]

    @property
    def small(self) -> NDArray[np.bool_]:
        """(N,) objects under 32 x 32 pixels."""
        return self.area < _SMALL

    @property
    def crowded(self) -> NDArray[np.bool_]:
        """(N,) objects that two or more others touch."""
        return self.touching >= CROWD


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
    """Compare each mask with its true object; arguments and errors as `object_overlaps`."""
    return summarise(object_overlaps(pred, match, source=source), match)


def summarise(overlaps: ObjectOverlaps, match: ObjectMatch) -> MaskQuality:
    """The means over all objects and by kind."""
    iou, area, grouped = overlaps.iou, overlaps.area, overlaps.in_group
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


def object_overlaps(
    pred: Mapping[int, bytes], match: ObjectMatch, *, source: str | PathLike[str] = "labels"
) -> ObjectOverlaps:
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
    iou, area = [], []
    for annotation in matched:
        true_mask, image = true_counts[annotation.annotation_id], truth.images[annotation.image_id]
        object_id = own_id[annotation.annotation_id]
        iou.append(_iou(pred[object_id], true_mask, image, source, object_id))
        area.append(rle_area(true_mask, image.height, image.width))
    neighbours = _neighbours(objects, true_counts, truth.images)
    near = [neighbours[annotation.annotation_id] for annotation in matched]
    return ObjectOverlaps(
        object_id=np.array([own_id[annotation.annotation_id] for annotation in matched], np.int64),
        image_id=np.array([annotation.image_id for annotation in matched], np.int64),
        iou=np.array(iou, np.float64),
        area=np.array(area, np.int64),
        touching=np.array([count for count, _ in near], np.int64),
        in_group=np.array([own for _, own in near], np.bool_),
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


def _neighbours(
    objects: list[InstanceAnnotation], true_counts: Mapping[int, bytes], images: Mapping[int, ImageRecord]
) -> dict[int, tuple[int, bool]]:
    """By id of each object how many others of its image touch its box, and whether one of them is of its class."""
    by_image: dict[int, list[InstanceAnnotation]] = {}
    for annotation in objects:
        by_image.setdefault(annotation.image_id, []).append(annotation)
    found = {}
    for image_id, family in by_image.items():
        size = images[image_id].height, images[image_id].width
        near = _near(np.stack([rle_box(true_counts[annotation.annotation_id], *size) for annotation in family]))
        classes = np.array([annotation.category_id for annotation in family])
        own = (near & (classes[:, None] == classes)).any(axis=1)
        for place, annotation in enumerate(family):
            found[annotation.annotation_id] = int(near[place].sum()), bool(own[place])
    return found


def _near(boxes_xyxy: NDArray[np.float32]) -> NDArray[np.bool_]:
    """(N, 4) XYXY -> (N, N) whether two boxes that are not empty come within `_TOUCH` of each other; no box itself."""
    gap = boxes_xyxy[:, None, :2] - boxes_xyxy[None, :, 2:]
    near = (gap <= _TOUCH).all(axis=2)
    filled = boxes_xyxy[:, 2] > boxes_xyxy[:, 0]
    pairs: NDArray[np.bool_] = near & near.T & filled[:, None] & filled[None, :]
    np.fill_diagonal(pairs, False)
    return pairs
