"""COCO instance files: with polygons, and FiftyOne's folder of photographs beside one with RLE.

COCO's polygons are unions: they hold several parts but no holes. Coordinates are whole numbers, the corners of pixels,
which pycocotools fills exactly.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from sapnet_pipe.data.coco.document import ImageRecord
from sapnet_pipe.data.coco.masks import Mask, rle_area_and_box
from sapnet_pipe.data.exports.fidelity import mask_iou
from sapnet_pipe.data.exports.photographs import place_photograph, stems, without_photographs
from sapnet_pipe.data.exports.record import FormWriter, LabelledImage, LabelledObject
from sapnet_pipe.data.exports.shapes.outlines import corners_of
from sapnet_pipe.data.exports.shapes.rasters import fill_as_coco


class CocoPolygons(FormWriter):
    """One file; an annotation a line, so that memory holds one image."""

    file: TextIO

    def begin(self) -> None:
        """Open the file and write the categories."""
        self.file = self.annotations_path().open("w", encoding="utf-8", newline="\n")
        self.open_files.append(self.file)
        categories = [{"id": entry.category_id, "name": entry.name} for entry in self.job.categories]
        self.file.write(f'{{"info": {{}},\n"categories": {_dump(categories)},\n"images": [\n')
        self.file.write(",\n".join(_dump(self.image_entry(record)) for record in self.job.records))
        self.file.write('\n],\n"annotations": [')
        self.written = 0

    def annotations_path(self) -> Path:
        """Where the file is written."""
        return self.path

    def image_entry(self, record: ImageRecord) -> dict[str, Any]:
        """An entry of `images`."""
        entry = {"id": record.image_id, "file_name": record.file_name, "height": record.height, "width": record.width}
        return entry if record.text_id is None else entry | {"text_id": record.text_id}

    def add(self, image: LabelledImage) -> None:
        """Write the annotations of an image."""
        for item in image.objects:
            segmentation, iou = self.segmentation(item, image.record)
            area, (left, top, right, bottom) = rle_area_and_box(item.counts, image.record.height, image.record.width)
            entry = {
                "id": item.object_id,
                "image_id": image.record.image_id,
                "category_id": self.job.categories[item.class_index].category_id,
                "segmentation": segmentation,
                "bbox": [float(value) for value in (left, top, right - left, bottom - top)],
                "area": area,
                "iscrowd": 0,
            }
            score = {} if item.score is None else {"score": item.score}
            self.file.write((",\n" if self.written else "\n") + _dump(entry | score))
            self.written += 1
            self.fidelity.add(item.object_id, image.record.file_name, iou)

    def segmentation(self, item: LabelledObject, record: ImageRecord) -> tuple[Any, float]:
        """What is written for the mask, and its IoU with it."""
        crop = item.crop(record)
        polygons = [corners_of(ring) for ring in self.outlines(crop.mask)]
        filled: Mask = fill_as_coco([polygon.astype(np.float64) for polygon in polygons], *crop.mask.shape)
        return [(polygon + crop.corner).ravel().tolist() for polygon in polygons], mask_iou(filled, crop.mask)

    def finish(self) -> None:
        """Close the lists."""
        self.file.write("\n]\n}\n")


class FiftyOne(CocoPolygons):
    """A folder for FiftyOne's COCODetectionDataset: photographs in data/, and labels.json with RLE, which is exact."""

    def begin(self) -> None:
        """Make the folder, and begin the file."""
        self.stems = stems(self.job)
        self.placed: dict[int, str] = {}
        (self.path / "data").mkdir()
        for record in self.job.records:
            photo = place_photograph(self.job, record, self.path / "data", self.stems[record.image_id])
            if photo is not None:
                self.placed[record.image_id] = photo.relative_to(self.path / "data").as_posix()
        self.notes += without_photographs(self.job, "data")
        super().begin()

    def annotations_path(self) -> Path:
        """FiftyOne's name of it."""
        return self.path / "labels.json"

    def image_entry(self, record: ImageRecord) -> dict[str, Any]:
        """An entry of `images`, under the name in data/."""
        entry = super().image_entry(record)
        return entry | {"file_name": self.placed.get(record.image_id, record.file_name)}

    def segmentation(self, item: LabelledObject, record: ImageRecord) -> tuple[Mapping[str, Any], float]:
        """The RLE as it is."""
        return {"size": [record.height, record.width], "counts": item.counts.decode("ascii")}, 1.0


def _dump(value: Any) -> str:
    return json.dumps(value, allow_nan=False, ensure_ascii=False)
