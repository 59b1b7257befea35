"""What is exported: pseudo labels or any COCO instances, or predictions in COCO's results form."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any

from sapnet_pipe.data.coco.document import Category, ImageRecord, is_number, read_images
from sapnet_pipe.data.coco.document import read_head as read_images_and_categories
from sapnet_pipe.data.coco.instances import InstanceDataset, counts_of
from sapnet_pipe.data.coco.masks import rle_area
from sapnet_pipe.data.coco.segmentations import segmentation_to_counts
from sapnet_pipe.data.errors import FaultReport, UserError
from sapnet_pipe.data.evaluation.detections import read_results
from sapnet_pipe.data.exports.record import LabelledImage, LabelledObject
from sapnet_pipe.data.files import read_json
from sapnet_pipe.data.labels.pseudo_labels import confidence_of, read_pseudo_labels
from sapnet_pipe.data.photo_names import sizes_in


@dataclass
class LeftOut:
    """Objects that are not written, by the reason."""

    without_mask: int = 0
    empty: int = 0
    crowds: int = 0
    below_min_score: int = 0


class ExportSource(ABC):
    """The images, categories and objects of a file; masks are decoded as they are written.

    Attributes:
        left_out: Counted while `images` runs.
    """

    def __init__(
        self,
        path: Path,
        records: Mapping[int, ImageRecord],
        categories: tuple[Category, ...],
        entries: Mapping[int, list[Any]],
        min_score: float,
        notes: tuple[str, ...] = (),
    ) -> None:
        self.path, self.categories, self.notes = path, categories, notes
        self.records = tuple(records.values())
        self.left_out = LeftOut()
        self._entries, self._min_score = entries, min_score
        self._classes = {category.category_id: index for index, category in enumerate(categories)}

    def images(self) -> Iterator[LabelledImage]:
        """Every image by ascending id, also those without objects. Raises: UserError for a mask that cannot be read."""
        for record in self.records:
            found = (self._object(entry, record) for entry in self._entries.get(record.image_id, ()))
            yield LabelledImage(record, tuple(item for item in found if item is not None))

    @abstractmethod
    def _object(self, entry: Any, record: ImageRecord) -> LabelledObject | None:
        """The object of an entry; None if it is left out, which is counted."""

    def _kept(self, made: LabelledObject, record: ImageRecord) -> LabelledObject | None:
        if made.score is not None and made.score < self._min_score:
            self.left_out.below_min_score += 1
            return None
        if not rle_area(made.counts, record.height, record.width):
            self.left_out.empty += 1
            return None
        return made


class _Labels(ExportSource):
    def _object(self, entry: Any, record: ImageRecord) -> LabelledObject | None:
        if entry.iscrowd or entry.segmentation is None:
            self.left_out.crowds += entry.iscrowd
            self.left_out.without_mask += not entry.iscrowd
            return None
        alternates = len(entry.extra.get("alternates") or ())
        made = LabelledObject(
            object_id=entry.annotation_id,
            class_index=self._classes[entry.category_id],
            counts=counts_of(entry, record, file=self.path),
            score=confidence_of(entry, file=self.path),
            alternates=alternates,
        )
        return self._kept(made, record)


class _Predictions(ExportSource):
    def _object(self, entry: Any, record: ImageRecord) -> LabelledObject | None:
        number, values = entry
        field = f"results[{number}].segmentation"
        counts = segmentation_to_counts(
            values.get("segmentation"), record.height, record.width, file=self.path, field=field
        )
        score = float(values["score"])
        return self._kept(LabelledObject(number + 1, self._classes[values["category_id"]], counts, score), record)


def read_labels(path: Path, images_dir: Path | None, *, min_score: float, keep_crowds: bool) -> ExportSource:
    """Pseudo labels, or any COCO instances. Raises: UserError as `read_pseudo_labels`."""
    size_of = None if images_dir is None else sizes_in(images_dir, path)
    dataset: InstanceDataset = read_pseudo_labels(path, size_of=size_of, keep_crowds=keep_crowds)
    ordered = sorted(dataset.annotations, key=attrgetter("image_id"))
    entries = {key: list(group) for key, group in groupby(ordered, key=attrgetter("image_id"))}
    return _Labels(path, dataset.images, dataset.categories, entries, min_score, dataset.notes)


def read_predictions(path: Path, names: Path, images_dir: Path | None, *, min_score: float) -> ExportSource:
    """Predictions in COCO's results form.

    Args:
        names: COCO file of their images and, if it has them, categories, as `predict` writes it beside its results.
    Raises: UserError for a missing or malformed file, and naming the entry at fault.
    """
    if not names.is_file():
        hint = "Put the file that predict writes beside its results there, or name a COCO file by --images-json"
        raise UserError(path, "images", str(names), "which is not there, so that the images have no names", hint)
    root, report = read_json(names), FaultReport(names)
    if not isinstance(root, dict):
        raise UserError(names, "content", type(root).__name__, "which is not a COCO object", "Give a COCO JSON file")
    size_of = None if images_dir is None else sizes_in(images_dir, names)
    listed = read_results(path)
    if root.get("categories"):
        records, categories = read_images_and_categories(root, report, size_of)
    else:
        records = read_images(root, report, size_of)
        used = {entry.get("category_id") for entry in listed if isinstance(entry, dict)}
        numbers = sorted(number for number in used if type(number) is int)
        categories = tuple(Category(number, f"category {number}") for number in numbers)
    known = {category.category_id for category in categories}
    entries: dict[int, list[Any]] = {}
    for number, entry in enumerate(listed):
        _check(path, f"results[{number}]", entry, records, known)
        entries.setdefault(entry["image_id"], []).append((number, entry))
    return _Predictions(path, records, categories, entries, min_score, report.notes())


def _check(path: Path, where: str, entry: Any, records: Mapping[int, ImageRecord], categories: set[int]) -> None:
    """Raises: UserError unless the entry names an image and a category and has a score."""
    if not isinstance(entry, dict):
        raise UserError(path, where, entry, "which is not an object", "Give {image_id, category_id, score, ...}")
    image_id, category_id, score = entry.get("image_id"), entry.get("category_id"), entry.get("score")
    if type(image_id) is not int or image_id not in records:
        hint = "Give the file of images that belongs to these predictions"
        raise UserError(path, f"{where}.image_id", image_id, "which is not an image of that file", hint)
    if type(category_id) is not int or category_id not in categories:
        hint = "Give the file of images that belongs to these predictions"
        raise UserError(path, f"{where}.category_id", category_id, "which is not a category of that file", hint)
    if not is_number(score):
        raise UserError(path, f"{where}.score", score, "which is not a finite number", "Give every prediction a score")
