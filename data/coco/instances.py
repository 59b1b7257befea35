"""COCO instance files: masks of objects in images."""

from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from types import MappingProxyType
from typing import Any

from sapnet_pipe.data.coco.document import Category, ImageRecord, is_number, read_document
from sapnet_pipe.data.coco.segmentations import segmentation_problem, segmentation_to_counts
from sapnet_pipe.data.errors import UserError

__all__ = ["Category", "ImageRecord", "InstanceAnnotation", "InstanceDataset", "counts_of", "read_instances"]

_KNOWN_KEYS = frozenset({"id", "image_id", "category_id", "segmentation", "bbox", "area", "iscrowd"})
_NOTHING_MORE: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class InstanceAnnotation:
    """One object.

    Attributes:
        segmentation: Polygons, uncompressed or compressed RLE as in the file; None where the file gives none.
        bbox_xywh: The file's box, x, y, width, height in pixels, or None.
        area: The file's area in square pixels, or None.
        extra: Every key that COCO does not define, such as ``score`` or ``alternates``.
    """

    annotation_id: int
    image_id: int
    category_id: int
    segmentation: Any
    bbox_xywh: tuple[float, float, float, float] | None
    area: float | None
    iscrowd: bool
    extra: Mapping[str, Any]


@dataclass(frozen=True)
class InstanceDataset:
    """A valid instance file: images by ascending id, categories and annotations in ascending order of their ids."""

    source: Path
    images: dict[int, ImageRecord]
    categories: tuple[Category, ...]
    annotations: tuple[InstanceAnnotation, ...]

    def category_index(self) -> dict[int, int]:
        """category_id -> class_index 0..C-1, in ascending order of the category ids."""
        return {category.category_id: index for index, category in enumerate(self.categories)}


def read_instances(path: Path) -> InstanceDataset:
    """Read and check a COCO instance file; masks stay in the form the file has.

    Raises: UserError naming file, field, value and hint for whatever is missing, of a wrong type, not finite, doubled
        or unknown, and for a file without images, categories or annotations.
    """
    document = read_document(Path(path))
    annotations = [_annotation(document.source, index, entry) for index, entry in enumerate(document.annotations)]
    annotations.sort(key=lambda annotation: annotation.annotation_id)
    return InstanceDataset(document.source, document.images, document.categories, tuple(annotations))


def counts_of(annotation: InstanceAnnotation, image: ImageRecord, *, file: str | PathLike[str]) -> bytes:
    """The annotation's mask as compressed counts in the image's size.

    Raises: UserError if there is no mask, or if it does not fit the image.
    """
    field = f"annotation {annotation.annotation_id}.segmentation"
    if annotation.segmentation is None:
        raise UserError(file, field, None, "but a mask is needed here", "Give a file that has masks")
    return segmentation_to_counts(annotation.segmentation, image.height, image.width, file=file, field=field)


def _annotation(path: Path, index: int, entry: dict[str, Any]) -> InstanceAnnotation:
    segmentation = entry.get("segmentation") or None
    if segmentation is not None and (wrong := segmentation_problem(segmentation)):
        place, value, problem, hint = wrong
        raise UserError(path, f"annotations[{index}].segmentation{place}", value, problem, hint)
    area = entry.get("area")
    if area is not None and (not is_number(area) or area < 0):
        raise UserError(
            path, f"annotations[{index}].area", area, "which is not a size", "Give square pixels, or no area"
        )
    extra = _NOTHING_MORE if entry.keys() <= _KNOWN_KEYS else {k: v for k, v in entry.items() if k not in _KNOWN_KEYS}
    return InstanceAnnotation(
        annotation_id=entry["id"],
        image_id=entry["image_id"],
        category_id=entry["category_id"],
        segmentation=segmentation,
        bbox_xywh=_bbox(path, index, entry.get("bbox")),
        area=None if area is None else float(area),
        iscrowd=bool(entry.get("iscrowd", 0)),
        extra=extra,
    )


def _bbox(path: Path, index: int, bbox: Any) -> tuple[float, float, float, float] | None:
    if bbox is None:
        return None
    if type(bbox) is not list or len(bbox) != 4 or not all(map(is_number, bbox)) or bbox[2] < 0 or bbox[3] < 0:
        problem = "which is not [x, y, width, height] in pixels"
        raise UserError(path, f"annotations[{index}].bbox", bbox, problem, "Give four finite numbers, or no bbox")
    return float(bbox[0]), float(bbox[1]), float(bbox[2]), float(bbox[3])
