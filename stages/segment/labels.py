"""Labels to train on, as run lengths grouped by image, and labels to measure on; checked before the training begins."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sapnet_pipe.data.coco.instances import (
    Category,
    ImageRecord,
    InstanceAnnotation,
    InstanceDataset,
    counts_of,
    read_instances,
)
from sapnet_pipe.data.coco.instances import read_truth as read_true_masks
from sapnet_pipe.data.coco.masks import decode_masks, rle_area
from sapnet_pipe.data.depth_of_set import depth_of_set
from sapnet_pipe.data.errors import FaultReport, UserError, mended
from sapnet_pipe.data.evaluation.identity import in_categories_of
from sapnet_pipe.data.images import read_image
from sapnet_pipe.data.labels.pseudo_labels import alternates_of, confidence_of
from sapnet_pipe.data.photo_names import check_spelling, find_photograph, sizes_in
from sapnet_pipe.data.pixel_depth import AUTO, Depth
from sapnet_pipe.stages.training.failures import find_unreadable, photo_field, unreadable_note

_OTHER_DEPTH = mended("depth-of-the-labels", "depth of the labels is not taken", "That of image.depth is")


@dataclass(frozen=True, slots=True)
class LabelledImage:
    """One image with its N objects.

    Attributes:
        annotation_ids: N ids, ascending.
        classes: N class indices.
        counts: N compressed counts, none of an empty mask.
        alternates: Per object the compressed counts of its MPS alternates, perhaps none.
    """

    record: ImageRecord
    annotation_ids: tuple[int, ...]
    classes: tuple[int, ...]
    counts: tuple[bytes, ...]
    alternates: tuple[tuple[bytes, ...], ...]


@dataclass(frozen=True)
class LabelSet:
    """All images of a label file by ascending id, also those without objects.

    Attributes:
        source: The label file, to blame for what is wrong with an image.
        categories: In the order of the class indices.
        dropped: Reason -> number of annotations that do not train.
        notes: What was mended in the file, a line a kind.
        depth: How photographs of more than 8 bits a channel are scaled.
    """

    source: Path
    images_dir: Path
    images: tuple[LabelledImage, ...]
    categories: tuple[Category, ...]
    dropped: dict[str, int]
    notes: tuple[str, ...] = ()
    depth: Depth = AUTO

    def read_pixels(self, image: LabelledImage) -> NDArray[np.uint8]:
        """Decode the photograph, (H, W, 3) uint8 RGB; UserError if it cannot be had."""
        return read_record(image.record, self.images_dir, self.source, self.depth)


def read_record(record: ImageRecord, images_dir: Path, source: Path, depth: Depth = AUTO) -> NDArray[np.uint8]:
    """Decode the photograph of an image record, (H, W, 3) uint8 RGB; `source` is blamed if it cannot be had."""
    field = photo_field(record)
    path = find_photograph(images_dir, record.file_name, file=source, field=field)
    return read_image(path, record.height, record.width, depth=depth, file=source, field=field)


def read_masks(image: LabelledImage) -> tuple[NDArray[np.uint8], list[NDArray[np.uint8]]]:
    """Masks (N, H, W) and per object its alternates (A_i, H, W), uint8 0 or 1 in original pixels."""
    height, width = image.record.height, image.record.width
    groups = (image.counts, *image.alternates)
    flat = decode_masks([counts for group in groups for counts in group], height, width).view(np.uint8)
    masks, *alternates = np.split(flat, np.cumsum([len(group) for group in groups])[:-1])
    return masks, alternates


def read_labels(
    path: Path,
    images_dir: Path,
    *,
    with_alternates: bool,
    min_score: float = 0.0,
    max_failure_rate: float = 0.0,
    keep_crowds: bool = False,
    depth: Depth = AUTO,
    quiet: bool = True,
) -> LabelSet:
    """Read any COCO instances file, pseudo labels or true masks, and keep what trains.

    Args:
        min_score: Labels of less confidence are left out; one without confidence and score is taken to be certain.
        max_failure_rate: Share of the photographs that may be unreadable; they are left out with their labels.
        keep_crowds: Take annotations with `iscrowd` 1 for single objects.
        depth: How more than 8 bits become 8; a plain ``auto`` is that of the labels, else it is decided.

    Crowd regions, empty masks and annotations without one are left out and counted. Everything is turned into
    compressed run lengths at once: it checks every mask before hours are spent, and takes a fraction of the
    memory of the parsed JSON.
    Raises: UserError for a malformed file or mask, for a missing image, and if nothing is left to train on.
    """
    dataset = read_instances(path, size_of=sizes_in(images_dir, path), keep_crowds=keep_crowds)
    classes, dropped = dataset.category_index(), Counter[str]()
    grouped: dict[int, list[InstanceAnnotation]] = {image_id: [] for image_id in dataset.images}
    for annotation in dataset.annotations:
        if annotation.iscrowd:
            dropped["crowd"] += 1
        elif annotation.segmentation is None:
            dropped["without mask"] += 1
        elif min_score > 0 and _below(annotation, min_score, path):
            dropped[f"confidence under {min_score:g}"] += 1
        else:
            grouped[annotation.image_id].append(annotation)
    images = tuple(
        _labelled(dataset, dataset.images[image_id], annotations, classes, with_alternates, dropped)
        for image_id, annotations in grouped.items()
    )
    if not any(image.counts for image in images):
        reasons = ", ".join(f"{count} {reason}" for reason, count in dropped.items())
        hint = "Give masks of single objects (segmentation)" + (", or lower min_score" if min_score > 0 else "")
        raise UserError(path, "annotations", reasons, "none of which can be trained on", hint)
    records, report = [image.record for image in images], FaultReport(path)
    check_spelling(images_dir, {record.file_name: photo_field(record) for record in records}, report)
    lost = find_unreadable(records, images_dir, source=path, rate=max_failure_rate, quiet=quiet)
    dropped["of unreadable photographs"] = sum(len(image.counts) for image in images if image.record.image_id in lost)
    images = tuple(image for image in images if image.record.image_id not in lost)
    if not any(image.counts for image in images):
        raise UserError(images_dir, "images", len(lost), "cannot be read, and hold all the labels", "Replace them")
    depth = _depth(dataset, records, images_dir, depth, report, quiet)
    notes = (*dataset.notes, *report.notes(), *unreadable_note(lost, len(records)))
    counts = {reason: count for reason, count in dropped.items() if count}
    return LabelSet(path, images_dir, images, dataset.categories, counts, notes, depth)


def _depth(
    dataset: InstanceDataset,
    records: list[ImageRecord],
    images_dir: Path,
    given: Depth,
    report: FaultReport,
    quiet: bool,
) -> Depth:
    recorded = Depth.recorded(dataset.info.get("depth"), dataset.source, "info.depth")
    paths = [
        find_photograph(images_dir, record.file_name, file=dataset.source, field=photo_field(record))
        for record in records
    ]
    taken = depth_of_set(paths, given if given.is_decided else recorded, report, quiet=quiet)
    if taken != AUTO and given.is_decided and recorded.is_decided and given != recorded:
        report(_OTHER_DEPTH, "info.depth", str(recorded), f"but image.depth is {given}")
    return taken


def read_truth(path: Path, labels: LabelSet, *, keep_crowds: bool = False) -> tuple[InstanceDataset, list[str]]:
    """Read validation labels, in the category ids of the training labels; and what the user should know of it.

    Raises: UserError as `read_true_masks`, and if the files have no category name in common, or contradict each other.
    """
    whole = read_true_masks(path, keep_crowds=keep_crowds)
    truth, remarks = in_categories_of(labels.categories, whole, source=labels.source)
    return truth, [*whole.notes, *remarks]


def _below(annotation: InstanceAnnotation, min_score: float, file: Path) -> bool:
    confidence = confidence_of(annotation, file=file)
    return confidence is not None and confidence < min_score


def _labelled(
    dataset: InstanceDataset,
    record: ImageRecord,
    annotations: list[InstanceAnnotation],
    classes: dict[int, int],
    with_alternates: bool,
    dropped: Counter[str],
) -> LabelledImage:
    kept = []
    for annotation in annotations:
        counts = counts_of(annotation, record, file=dataset.source)
        if not rle_area(counts, record.height, record.width):
            dropped["empty mask"] += 1
            continue
        others = alternates_of(annotation, record, file=dataset.source) if with_alternates else ()
        filled = tuple(other for other in others if rle_area(other, record.height, record.width))
        dropped["empty alternate"] += len(others) - len(filled)
        kept.append((annotation.annotation_id, classes[annotation.category_id], counts, filled))
    ids, class_indices, masks, alternates = zip(*kept, strict=True) if kept else ((), (), (), ())
    return LabelledImage(record, ids, class_indices, masks, alternates)
