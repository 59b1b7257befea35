"""Every mask of a label file, read one by one: whether it is there, is COCO's, fits its image, and is not empty."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sapnet_pipe.data.checks.boxes import PlacedBox, check_boxes
from sapnet_pipe.data.checks.findings import Findings, shown, shown_box
from sapnet_pipe.data.checks.rle_dialects import dialect_of, order_of_runs
from sapnet_pipe.data.coco.document import ImageRecord
from sapnet_pipe.data.coco.instances import MASK, NO_MASK, InstanceAnnotation, InstanceDataset, Xywh
from sapnet_pipe.data.coco.masks import rle_area, rle_box
from sapnet_pipe.data.coco.segmentations import segmentation_problem, segmentation_to_counts
from sapnet_pipe.data.errors import FaultKind, UserError

_NO_MASK = FaultKind(NO_MASK.name, "annotations have no mask and are left out", NO_MASK.hint, error=False)
_EMPTY = FaultKind("masks-empty", "masks are empty and are left out", "Drop them", error=False)
_FRACTIONS = FaultKind(
    "polygons-as-fractions", "polygons look like fractions of the image", "Multiply x by the width, y by the height"
)
_NOT_IN_BOX = FaultKind(
    "masks-beside-their-box", "masks lie elsewhere than their annotation's bbox", "Check masks and boxes", error=False
)


def check_masks(
    dataset: InstanceDataset,
    findings: Findings,
    *,
    wrap: Callable[[tuple[InstanceAnnotation, ...]], Iterable[InstanceAnnotation]] = lambda annotations: annotations,
) -> int:
    """Read every mask of a label file and its alternates, and compare the masks with the boxes.

    Args:
        wrap: Shows progress.
    Returns: the number of sound masks that are not empty.
    """
    path, of, filled = dataset.source, len(dataset.annotations), 0
    boxes: list[PlacedBox] = []
    no_mask = _NO_MASK if any(annotation.segmentation is not None for annotation in dataset.annotations) else NO_MASK
    for annotation in wrap(dataset.annotations):
        image, box = dataset.images[annotation.image_id], annotation.bbox_xywh
        mask_xyxy = None
        if annotation.segmentation is None and not annotation.iscrowd:
            findings.add(no_mask, path, f"annotation {annotation.annotation_id}.segmentation = None", of=of)
        elif annotation.iscrowd:
            _check_structure(annotation, dataset, findings)
        elif image.height:
            mask_xyxy = _check(annotation, image, dataset, findings)
            filled += mask_xyxy is not None
        if box is not None and image.height:
            boxes.append(PlacedBox(f"annotation {annotation.annotation_id}.bbox", box, image, mask_xyxy))
    check_boxes(path, boxes, findings)
    for where, (x, y, width, height), _, mask in boxes:
        if mask is not None and (x > mask[2] or y > mask[3] or x + width < mask[0] or y + height < mask[1]):
            example = f"{where} = {shown_box((x, y, width, height))}, its mask has {shown_box(mask)}"
            findings.add(_NOT_IN_BOX, path, example, of=of)
    return filled


def _masks_of(annotation: InstanceAnnotation) -> Iterator[tuple[str, Any]]:
    """The annotation's mask and its alternates, each with the name of its field."""
    where = f"annotation {annotation.annotation_id}"
    yield f"{where}.segmentation", annotation.segmentation
    alternates = annotation.extra.get("alternates")
    for number, alternate in enumerate(alternates if isinstance(alternates, list) else ()):
        yield f"{where}.alternates[{number}]", alternate


def _check_structure(annotation: InstanceAnnotation, dataset: InstanceDataset, findings: Findings) -> None:
    """Of a crowd's masks the reader asks no more than that they look like masks."""
    for where, segmentation in _masks_of(annotation):
        wrong = segmentation_problem(segmentation) if segmentation is not None else None
        if wrong is not None:
            place, value, problem, _ = wrong
            findings.add(MASK, dataset.source, f"{where}{place} = {shown(value)}, {problem}")


def _check(
    annotation: InstanceAnnotation, image: ImageRecord, dataset: InstanceDataset, findings: Findings
) -> NDArray[np.float32] | None:
    """The box (4,) XYXY of the annotation's mask, which it has; None if it cannot be read, or nothing is in it."""
    path, of = dataset.source, len(dataset.annotations)
    (where, segmentation), *alternates = _masks_of(annotation)
    for field, alternate in alternates:
        _counts(alternate, field, image, None, dataset, findings)
    counts = _counts(segmentation, where, image, annotation.bbox_xywh, dataset, findings)
    if counts is None:
        return None
    if not rle_area(counts, image.height, image.width):
        findings.add(_EMPTY, path, f"{where} = {shown(segmentation)}", of=of)
        return None
    return rle_box(counts, image.height, image.width)


def _counts(
    segmentation: Any, where: str, image: ImageRecord, box: Xywh | None, dataset: InstanceDataset, findings: Findings
) -> bytes | None:
    """The mask as compressed counts; None, and a finding, if it cannot be read or is not what it was meant to be."""
    path, of, size = dataset.source, len(dataset.annotations), (image.height, image.width)
    counts: bytes | None = None
    kind: FaultKind | None
    try:
        counts = segmentation_to_counts(segmentation, *size, file=path, field=where)
    except UserError as error:
        kind = dialect_of(segmentation, *size)
        if kind is None:
            findings.add(replace(MASK, hint=error.hint), path, error.fault, of=of)
    else:
        kind = _misread_as(segmentation, *size, box)
    if kind is not None:
        findings.add(
            kind, path, f"{where} = {shown(segmentation)}, image {image.image_id} is {size[1]} x {size[0]}", of=of
        )
        return None
    return counts


def _misread_as(segmentation: Any, height: int, width: int, box: Xywh | None) -> FaultKind | None:
    """What a mask that can be read seems to be instead."""
    if isinstance(segmentation, list):
        if max(map(max, segmentation)) <= 1 and height * width > 64:
            return dialect_of(segmentation, height, width) or _FRACTIONS
        return dialect_of(segmentation, height, width)
    if isinstance(segmentation["counts"], list):
        return order_of_runs(segmentation["counts"], height, width, box)
    return None
