"""What every form is written from: an image with its masks, and the options of the whole file."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sapnet_pipe.data.coco.document import Category, ImageRecord
from sapnet_pipe.data.coco.masks import Mask, decode_mask, rle_box
from sapnet_pipe.data.exports.fidelity import Fidelity
from sapnet_pipe.data.exports.shapes.outlines import Ring
from sapnet_pipe.data.exports.shapes.polygons import outlines_of

Shape = Literal["auto", "polygon", "mask"]
Holes = Literal["fill", "bridge"]
Photographs = Literal["copy", "link", "none"]
Split = Literal["train", "val"]

_MARGIN = 2  # pixels around a mask into which a written shape may reach


@dataclass(frozen=True, slots=True)
class Crop:
    """A mask in a part of its image that has room around it.

    Attributes:
        left, top: Of the part, in pixels of the image.
        mask: (h, w) bool.
    """

    left: int
    top: int
    mask: Mask

    @property
    def corner(self) -> NDArray[np.int64]:
        """(2,) x, y of the part's first pixel."""
        return np.array([self.left, self.top])


@dataclass(frozen=True, slots=True)
class LabelledObject:
    """One object.

    Attributes:
        object_id: The annotation's id; of predictions the place in the file, from 1.
        class_index: Place of its category among those of the file, 0..C-1.
        counts: COCO's compressed RLE in the image's size; not empty.
        alternates: How many other masks the labels have for it.
    """

    object_id: int
    class_index: int
    counts: bytes
    score: float | None = None
    alternates: int = 0

    def crop(self, image: ImageRecord) -> Crop:
        """The mask with some pixels around it, as far as the image goes."""
        left, top, right, bottom = rle_box(self.counts, image.height, image.width).astype(int).tolist()
        left, top = max(left - _MARGIN, 0), max(top - _MARGIN, 0)
        whole = decode_mask(self.counts, image.height, image.width)
        return Crop(left, top, np.ascontiguousarray(whole[top : bottom + _MARGIN, left : right + _MARGIN]))


@dataclass(frozen=True, slots=True)
class LabelledImage:
    """One image with its objects by ascending id."""

    record: ImageRecord
    objects: tuple[LabelledObject, ...]


@dataclass(frozen=True)
class ExportOptions:
    """How the forms are written that leave a choice; `pipeline.commands.export` says what each means."""

    shape: Shape = "auto"
    holes: Holes = "fill"
    tolerance: float = 0.0
    photographs: Photographs = "copy"
    val_share: float = 0.2
    seed: int = 0
    image_prefix: str = "/data/local-files/?d="


@dataclass(frozen=True)
class ExportJob:
    """What is to be written.

    Attributes:
        source: The file of labels or predictions, which messages name.
        records: The images by ascending id.
        images_dir: Folder of the photographs, or None.
    """

    source: Path
    categories: tuple[Category, ...]
    records: tuple[ImageRecord, ...]
    images_dir: Path | None = None
    options: ExportOptions = field(default_factory=ExportOptions)

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        """By class index."""
        return tuple(category.name for category in self.categories)

    @cached_property
    def splits(self) -> Mapping[int, Split]:
        """image_id -> the part that it is drawn into, by the seed; of two images and more each part has one."""
        count = len(self.records)
        share = self.options.val_share
        wanted = min(max(round(share * count), 1), count - 1) if share and count > 1 else 0
        drawn = np.random.default_rng(self.options.seed).permutation(count)[:wanted]
        chosen = set(drawn.tolist())
        return {record.image_id: "val" if place in chosen else "train" for place, record in enumerate(self.records)}


class FormWriter(ABC):
    """Writes one form: `begin`, then `add` for every image, then `finish`; what is lost is added to `fidelity`.

    Args:
        path: A new folder, or a file that is to be written; both are temporary and renamed when all is there.
        target: The path that the user will find it under.
    """

    def __init__(self, path: Path, target: Path, job: ExportJob) -> None:
        self.path, self.target, self.job = path, target, job
        self.fidelity = Fidelity()
        self.notes: list[str] = []
        self.open_files: list[Any] = []  # closed at the end

    @abstractmethod
    def begin(self) -> None:
        """Check the categories and images against what the form can hold, and write what comes first."""

    @abstractmethod
    def add(self, image: LabelledImage) -> None:
        """Write an image with its objects."""

    def finish(self) -> None:
        """Write what comes last; of most forms nothing."""
        return

    def outlines(self, mask: Mask) -> list[Ring]:
        """The mask as a ring for each of its parts, as the options want them; the holes are counted."""
        found = outlines_of(mask, holes=self.job.options.holes, tolerance=self.job.options.tolerance)
        self.fidelity.holes_filled += found.holes_filled
        self.fidelity.holes_bridged += found.holes_bridged
        return found.rings

    def close(self) -> None:
        """Close what is open, also after a failure."""
        for file in self.open_files:
            file.close()
