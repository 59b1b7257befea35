"""COCO instance files: masks of objects in images."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path
from types import MappingProxyType
from typing import Any

from sapnet_pipe.data.coco.document import Category, ImageRecord, SizeOf, in_order, is_number, read_document
from sapnet_pipe.data.coco.segmentations import segmentation_problem, segmentation_to_counts
from sapnet_pipe.data.errors import FaultKind, FaultReport, UserError, mended

__all__ = [
    "Category",
    "ImageRecord",
    "InstanceAnnotation",
    "InstanceDataset",
    "counts_of",
    "read_instances",
    "read_truth",
]

NO_MASK = FaultKind("masks-missing", "annotations have no mask", "Give a file that has masks, or drop what has none")
MASK = FaultKind("masks-malformed", "masks cannot be read", "Write them again as polygons or as COCO's RLE")
_SHORT = mended("polygons-short", "polygons have fewer than three corners", "They are left out")
_PAIRS = mended("polygons-of-pairs", "polygons have corners in the form [x, y]", "They are read as x, y, x, y, ...")
_AREA = mended("areas", "annotations have an area that is not a size", "That of the mask is taken")
_NO_BOX = mended("boxes-malformed", "boxes are not four numbers", "That of the mask is taken")
_NEGATIVE_BOX = mended("boxes-negative", "boxes have a negative width or height", "That of the mask is taken")
_CROWD = mended(
    "crowds",
    "annotations have iscrowd 1",
    "They are crowds, not objects; if each is one object, as in exports of brushes, give --keep-crowds",
)
_KNOWN_KEYS = frozenset({"id", "image_id", "category_id", "segmentation", "bbox", "area", "iscrowd"})
_NOTHING_MORE: Mapping[str, Any] = MappingProxyType({})

Xywh = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class InstanceAnnotation:
    """One object.

    Attributes:
        segmentation: Polygons of three corners and more, uncompressed or compressed RLE as in the file; None where the
            file gives none.
        bbox_xywh: The file's box, x, y, width, height in pixels, or None.
        area: The file's area in square pixels, or None.
        extra: Every key that COCO does not define, such as ``score`` or ``alternates``.
    """

    annotation_id: int
    image_id: int
    category_id: int
    segmentation: Any
    bbox_xywh: Xywh | None
    area: float | None
    iscrowd: bool
    extra: Mapping[str, Any]


@dataclass(frozen=True)
class InstanceDataset:
    """A valid instance file: images by ascending id, categories and annotations in ascending order of their ids.

    Attributes:
        notes: What was mended in it, a line a kind.
        info: Its ``info``; of pseudo labels the method, the seed, the bags and the depth.
    """

    source: Path
    images: dict[int, ImageRecord]
    categories: tuple[Category, ...]
    annotations: tuple[InstanceAnnotation, ...]
    notes: tuple[str, ...] = ()
    info: Mapping[str, Any] = field(default_factory=dict)

    def category_index(self) -> dict[int, int]:
        """category_id -> class_index 0..C-1, in ascending order of the category ids."""
        return {category.category_id: index for index, category in enumerate(self.categories)}


def read_instances(
    path: Path, report: FaultReport | None = None, size_of: SizeOf | None = None, *, keep_crowds: bool = False
) -> InstanceDataset:
    """Read and check a COCO instance file; masks stay in the form the file has.

    A box or an area at fault is None. Where `report` does not raise, an annotation without a known image is left out; a
    mask at fault stays, and `counts_of` raises it again.

    Args:
        size_of: Tells the sizes of images that the file does not; without it they are a fault.
        keep_crowds: Take annotations with `iscrowd` 1 for single objects.
    Raises: UserError naming file, field, value and hint for whatever is missing, of a wrong type, not finite, doubled
        or unknown, and for a file without images, categories or annotations.
    """
    report = report or FaultReport(path)
    document = read_document(Path(path), report, size_of)
    annotations = [
        _annotation(f"annotations[{index}]", entry, report, keep_crowds)
        for index, entry in document.entries()
        if document.image_of(entry) is not None
    ]
    annotations.sort(key=lambda annotation: in_order(annotation.annotation_id))
    return InstanceDataset(
        document.source, document.images, document.categories, tuple(annotations), report.notes(), document.info
    )


def read_truth(path: Path, *, keep_crowds: bool = False) -> InstanceDataset:
    """Read true masks to measure against; what has no mask is left out, and a note counts it.

    Raises: UserError as `read_instances`, and if no annotation has a mask.
    """
    whole = read_instances(path, keep_crowds=keep_crowds)
    kept = tuple(annotation for annotation in whole.annotations if annotation.segmentation is not None)
    if not kept:
        raise UserError(path, "annotations.segmentation", None, "but masks are needed to measure", NO_MASK.hint)
    without = len(whole.annotations) - len(kept)
    note = f"{path}: {without} annotations have no mask (segmentation) and are left out of the measuring."
    return replace(whole, annotations=kept, notes=(*whole.notes, note) if without else whole.notes)


def counts_of(annotation: InstanceAnnotation, image: ImageRecord, *, file: str | PathLike[str]) -> bytes:
    """The annotation's mask as compressed counts in the image's size.

    Raises: UserError if there is no mask, or if it does not fit the image.
    """
    field = f"annotation {annotation.annotation_id}.segmentation"
    if annotation.segmentation is None:
        raise UserError(file, field, None, "but a mask is needed here", NO_MASK.hint)
    return segmentation_to_counts(annotation.segmentation, image.height, image.width, file=file, field=field)


def read_box(field: str, box: Any, report: FaultReport) -> Xywh | None:
    """A `bbox`, x, y, width, height in pixels; None if there is none, or if it was reported."""
    if box is None:
        return None
    if type(box) is not list or len(box) != 4 or not all(map(is_number, box)):
        report(_NO_BOX, field, box, "which is not [x, y, width, height] in pixels")
        return None
    if box[2] < 0 or box[3] < 0:
        report(_NEGATIVE_BOX, field, box, "which is not [x, y, width, height] in pixels: one of the sides is negative")
        return None
    return float(box[0]), float(box[1]), float(box[2]), float(box[3])


def _annotation(where: str, entry: dict[str, Any], report: FaultReport, keep_crowds: bool) -> InstanceAnnotation:
    field = f"{where}.segmentation"
    segmentation = _without_short(field, _without_pairs(field, entry.get("segmentation") or None, report), report)
    if segmentation is not None and (wrong := segmentation_problem(segmentation)):
        place, value, problem, hint = wrong
        report(MASK, f"{field}{place}", value, problem, hint)
    area = entry.get("area")
    if area is not None and (not is_number(area) or area < 0):
        report(_AREA, f"{where}.area", area, "which is not a size")
        area = None
    is_crowd = bool(entry.get("iscrowd", 0)) and not keep_crowds
    if is_crowd:
        report(_CROWD, f"{where}.iscrowd", 1, "so it is no object")
    extra = _NOTHING_MORE if entry.keys() <= _KNOWN_KEYS else {k: v for k, v in entry.items() if k not in _KNOWN_KEYS}
    annotation_id: Any = entry.get("id")
    image_id: Any = entry.get("image_id")
    category_id: Any = entry.get("category_id")
    return InstanceAnnotation(
        annotation_id=annotation_id,
        image_id=image_id,
        category_id=category_id,
        segmentation=segmentation,
        bbox_xywh=read_box(f"{where}.bbox", entry.get("bbox"), report),
        area=None if area is None else float(area),
        iscrowd=is_crowd,
        extra=extra,
    )


def _without_pairs(field: str, segmentation: Any, report: FaultReport) -> Any:
    """Polygons whose corners are written as [x, y], with flat lists in their place."""
    if type(segmentation) is not list:
        return segmentation
    if _are_corners(segmentation):
        report(_PAIRS, field, segmentation, "a list of [x, y]")
        return [_flat(segmentation)]
    flat = [_flat(part) if _are_corners(part) else part for part in segmentation]
    if flat != segmentation:
        report(_PAIRS, field, segmentation, "lists of [x, y]")
    return flat


def _are_corners(values: Any) -> bool:
    return (
        type(values) is list
        and len(values) >= 3
        and all(type(corner) is list and len(corner) == 2 and all(map(is_number, corner)) for corner in values)
    )


def _flat(corners: list[list[float]]) -> list[float]:
    return [value for corner in corners for value in corner]


def _without_short(field: str, segmentation: Any, report: FaultReport) -> Any:
    """Polygons but for those of one or two corners, which hold no pixel; None if no other is left."""
    short = type(segmentation) is list and [type(part) is list and len(part) in (0, 2, 4) for part in segmentation]
    if not short or not any(short):
        return segmentation
    for index, (part, left_out) in enumerate(zip(segmentation, short, strict=True)):
        if left_out:
            report(_SHORT, f"{field}[{index}]", part, f"a polygon of {len(part)} numbers")
    return [part for part, left_out in zip(segmentation, short, strict=True) if not left_out] or None
