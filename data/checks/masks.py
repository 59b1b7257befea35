"""Checks of `segmentation`: whether every mask is there, is COCO's, fits its image, and is not empty."""

from collections.abc import Callable, Iterable
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sapnet_pipe.data.checks.findings import Findings, Kind, shown
from sapnet_pipe.data.checks.raw_document import RawAnnotation
from sapnet_pipe.data.checks.rle_dialects import dialect_of, order_of_runs
from sapnet_pipe.data.coco.document import is_number
from sapnet_pipe.data.coco.masks import rle_area, rle_box
from sapnet_pipe.data.coco.segmentations import segmentation_to_counts
from sapnet_pipe.data.errors import UserError

MISSING = Kind("masks-missing", "annotations have no mask", "Give masks, or drop the annotations")
OTHER = Kind("masks-malformed", "masks cannot be read", "Write them again as polygons or as COCO's RLE")
EMPTY = Kind("masks-empty", "masks are empty and are left out", "Drop them", error=False)
FRACTIONS = Kind(
    "polygons-as-fractions", "polygons look like fractions of the image", "Multiply x by the width, y by the height"
)
_NOT_IN_BOX = Kind(
    "masks-beside-their-box", "masks lie elsewhere than their annotation's bbox", "Check masks and boxes", error=False
)
_CROWDS = Kind("crowds", "annotations are crowds and are left out", "Nothing, if that is meant", error=False)


def check_masks(
    path: str | PathLike[str],
    annotations: list[RawAnnotation],
    findings: Findings,
    *,
    wrap: Callable[[list[RawAnnotation]], Iterable[RawAnnotation]] = lambda annotations: annotations,
) -> dict[int, NDArray[np.float32]]:
    """Read every mask of a label file, and its alternates.

    Args:
        wrap: Shows progress.
    Returns: the box (4,) XYXY of every sound mask that is not empty, by annotation index.
    """
    boxes: dict[int, NDArray[np.float32]] = {}
    of = len(annotations)
    for annotation in wrap(annotations):
        if annotation.size is None:
            continue
        where = f"annotations[{annotation.index}]"
        if annotation.entry.get("iscrowd") == 1:
            findings.add(_CROWDS, path, where, of=of)
            continue
        segmentation = annotation.entry.get("segmentation")
        if not segmentation:
            findings.add(MISSING, path, f"{where}.segmentation = {shown(segmentation)}", of=of)
            continue
        counts = _counts(path, annotation, segmentation, f"{where}.segmentation", findings, of)
        if counts is not None:
            if not rle_area(counts, *annotation.size):
                findings.add(EMPTY, path, f"{where}.segmentation = {shown(segmentation)}", of=of)
            else:
                boxes[annotation.index] = rle_box(counts, *annotation.size)
        _check_alternates(path, annotation, where, findings, of)
    return boxes


def _check_alternates(
    path: str | PathLike[str], annotation: RawAnnotation, where: str, findings: Findings, of: int
) -> None:
    alternates = annotation.entry.get("alternates")
    if alternates is None:
        return
    if not isinstance(alternates, list):
        findings.add(OTHER, path, f"{where}.alternates = {shown(alternates)}", of=of)
        return
    for number, segmentation in enumerate(alternates):
        _counts(path, annotation, segmentation, f"{where}.alternates[{number}]", findings, of)


def _counts(
    path: str | PathLike[str], annotation: RawAnnotation, segmentation: Any, where: str, findings: Findings, of: int
) -> bytes | None:
    """The mask as compressed counts; None, and a finding, if it is not COCO's."""
    height, width = annotation.size or (0, 0)
    example = f"{where} = {shown(segmentation)}, {annotation.image}"
    kind = dialect_of(segmentation, height, width)
    if kind is not None:
        findings.add(kind, path, example, of=of)
        return None
    try:
        counts = segmentation_to_counts(segmentation, height, width, file=path, field=where)
    except UserError as error:
        findings.add(OTHER, path, f"{error.field} = {shown(error.value)}, {error.problem}", of=of)
        return None
    order = _order(annotation, segmentation, height, width)
    if order is None and isinstance(segmentation, list) and max(map(max, segmentation)) <= 1 and height * width > 64:
        order = FRACTIONS
    if order is not None:
        findings.add(order, path, example, of=of)
        return None
    return counts


def _order(annotation: RawAnnotation, segmentation: Any, height: int, width: int) -> Kind | None:
    if not isinstance(segmentation, dict) or not isinstance(segmentation["counts"], list):
        return None
    box = annotation.entry.get("bbox")
    usable = isinstance(box, list) and len(box) == 4 and all(map(is_number, box))
    return order_of_runs(segmentation["counts"], height, width, box if usable else None)


def check_boxes_of_masks(
    path: str | PathLike[str],
    annotations: list[RawAnnotation],
    mask_box_xyxy: dict[int, NDArray[np.float32]],
    findings: Findings,
) -> None:
    """Masks whose own box and their annotation's have nothing in common: one of the two is of another object."""
    for annotation in annotations:
        mask, box = mask_box_xyxy.get(annotation.index), annotation.entry.get("bbox")
        if mask is None or type(box) is not list or len(box) != 4 or not all(map(is_number, box)):
            continue
        x, y, width, height = box
        if x > mask[2] or y > mask[3] or x + width < mask[0] or y + height < mask[1]:
            example = f"annotations[{annotation.index}].bbox = {shown(box)}, its mask has {shown(mask.tolist())}"
            findings.add(_NOT_IN_BOX, path, example, of=len(annotations))
