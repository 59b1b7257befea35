"""Pseudo labels: a COCO instance file with one chosen mask per point, and why it was chosen.

pycocotools, Detectron2, torchvision, supervision and FiftyOne read the file unchanged. Beyond COCO's keys an annotation
has ``score``, ``mask_confidence`` (FiftyOne refuses a ``confidence`` beside the score), ``source``, ``point``,
``bag_index``, ``runner_up``, ``psm_score``, ``prm_score``, ``margin``, ``box_prm`` (XYXY; null where the method makes
none) and ``alternates``, the bag's other masks that train beside the chosen one.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sapnet_pipe.data.boxes import xyxy_to_xywh
from sapnet_pipe.data.coco.document import SizeOf, is_number
from sapnet_pipe.data.coco.instances import (
    MASK,
    Category,
    ImageRecord,
    InstanceAnnotation,
    InstanceDataset,
    read_instances,
)
from sapnet_pipe.data.coco.masks import rle_area_and_box
from sapnet_pipe.data.coco.segmentations import segmentation_problem, segmentation_to_counts
from sapnet_pipe.data.errors import FaultKind, FaultReport
from sapnet_pipe.data.json_files import write_coco


@dataclass(frozen=True, slots=True)
class PseudoLabel:
    """The mask chosen for one point.

    Attributes:
        point_xy: x, y in original-image pixels.
        rle: COCO's compressed RLE of the chosen mask in the image's size.
        bag_index: Which of the bag's masks it is.
        score: The score that chose it.
        psm_score, prm_score: Scores of the two modules; None where the method has no such module.
        margin: How far the chosen mask is ahead of the next; None if there is no other.
        box_prm: (4,) XYXY box after mining, or None.
        alternates: RLEs of the masks that train beside it (MPS), in order.
        runner_up: Which mask of the bag comes second; None if there is no other.
        confidence: How sure the choice is, in [0, 1].
        source: The method that made the choice, which may be the one fallen back to.
    """

    point_id: int
    image_id: int
    category_id: int
    point_xy: tuple[float, float]
    rle: bytes
    bag_index: int
    score: float
    psm_score: float | None
    prm_score: float | None
    margin: float | None
    box_prm: tuple[float, float, float, float] | None
    alternates: tuple[bytes, ...]
    runner_up: int | None = None
    confidence: float | None = None
    source: str | None = None


_CONFIDENCE = "mask_confidence"
_SURENESS = (_CONFIDENCE, "confidence", "score")  # the second is what earlier versions wrote
_SCORE = FaultKind("scores", "annotations have a score that is not a number", "Give one, or none")
_NO_ALTERNATES = FaultKind("alternates", "alternates are not lists of masks", "Give a list of RLE, or none")


def write_pseudo_labels(
    path: Path,
    images: Sequence[ImageRecord],
    categories: Sequence[Category],
    labels: Iterable[PseudoLabel],
    *,
    info: Mapping[str, Any],
) -> None:
    """Write pseudo labels atomically, sorted by id, one annotation a line; the same labels give the same bytes.

    Labels are taken one by one, in any order; memory does not hold their masks.
    `bbox` and `area` are those of the mask, the annotation's id is the point's.

    Raises: ValueError for a score that is not finite; UserError if the file cannot be written.
    """
    by_id = {image.image_id: image for image in images}
    write_coco(
        path,
        info=info,
        images=sorted(images, key=lambda image: image.image_id),
        categories=sorted(categories, key=lambda category: category.category_id),
        annotations=_entries(labels, by_id),
        by_id=True,
    )


def read_pseudo_labels(
    path: Path, report: FaultReport | None = None, size_of: SizeOf | None = None, *, keep_crowds: bool = False
) -> InstanceDataset:
    """Read pseudo labels; `extra` of each annotation holds ``score`` and ``alternates`` and the other keys.

    Any COCO instance file will do: without `score` and `alternates` it counts as labelled with certainty. As with all
    masks, the form of the alternates is checked here and their run lengths when they are used (`alternates_of`).

    Raises: UserError as `read_instances`, and for a score or an alternate that cannot be used.
    """
    report = report or FaultReport(path)
    dataset = read_instances(path, report, size_of, keep_crowds=keep_crowds)
    for annotation in dataset.annotations:
        for name in _SURENESS:
            _number_of(annotation, name, report)
        _alternates(annotation, report)
    return dataset


def alternates_of(annotation: InstanceAnnotation, image: ImageRecord, *, file: Path) -> tuple[bytes, ...]:
    """Compressed RLEs of the annotation's alternates, none if it has none; UserError if one is malformed."""
    field = f"annotation {annotation.annotation_id}.alternates"
    return tuple(
        segmentation_to_counts(mask, image.height, image.width, file=file, field=f"{field}[{index}]")
        for index, mask in enumerate(_alternates(annotation, FaultReport(file)))
    )


def confidence_of(annotation: InstanceAnnotation, *, file: Path) -> float | None:
    """How sure the label is: its ``mask_confidence``, else its ``score``; None if it has neither, as true masks.

    Raises: UserError for a value that is not a finite number.
    """
    found = [_number_of(annotation, name, FaultReport(file)) for name in _SURENESS]
    return next((value for value in found if value is not None), None)


def _number_of(annotation: InstanceAnnotation, name: str, report: FaultReport) -> float | None:
    value = annotation.extra.get(name)
    if value is not None and not is_number(value):
        field = f"annotation {annotation.annotation_id}.{name}"
        report(_SCORE, field, value, "which is not a finite number")
        return None
    return None if value is None else float(value)


def _alternates(annotation: InstanceAnnotation, report: FaultReport) -> list[Any]:
    """The annotation's alternates, none if it has none; all of them have the structure of a mask, or are reported."""
    field = f"annotation {annotation.annotation_id}.alternates"
    alternates = annotation.extra.get("alternates")
    if alternates is None:
        return []
    if not isinstance(alternates, list):
        report(_NO_ALTERNATES, field, alternates, "which is not a list of masks")
        return []
    for index, mask in enumerate(alternates):
        if wrong := segmentation_problem(mask):
            place, value, problem, hint = wrong
            report(MASK, f"{field}[{index}]{place}", value, problem, hint)
    return alternates


def _entries(labels: Iterable[PseudoLabel], images: Mapping[int, ImageRecord]) -> Iterator[dict[str, Any]]:
    for label in labels:
        height, width = images[label.image_id].height, images[label.image_id].width
        area, box_xyxy = rle_area_and_box(label.rle, height, width)
        yield {
            "id": int(label.point_id),
            "image_id": int(label.image_id),
            "category_id": int(label.category_id),
            "segmentation": _segmentation(label.rle, height, width),
            "bbox": xyxy_to_xywh(box_xyxy).tolist(),
            "area": area,
            "iscrowd": 0,
            "score": _number(label.score),
            _CONFIDENCE: _number(label.confidence),
            "source": label.source,
            "point": [_number(value) for value in label.point_xy],
            "bag_index": int(label.bag_index),
            "runner_up": label.runner_up,
            "psm_score": _number(label.psm_score),
            "prm_score": _number(label.prm_score),
            "margin": _number(label.margin),
            "box_prm": None if label.box_prm is None else [_number(value) for value in label.box_prm],
            "alternates": [_segmentation(rle, height, width) for rle in label.alternates],
        }


def _segmentation(rle: bytes, height: int, width: int) -> dict[str, Any]:
    return {"size": [height, width], "counts": rle.decode("ascii")}


def _number(value: float | None) -> float | None:
    """Seven digits: all that float32 holds."""
    return None if value is None else float(f"{float(value):.7g}")
