"""PASCAL VOC: pictures of classes and of objects with VOC's palette, boxes in XML, lists of the splits.

A pixel has one class and one object: where masks overlap, the smaller lies on top. Boxes count pixels from 1 and name
the last one. JPEGImages holds JPEG files; photographs of other kinds are written anew as such.
"""

from pathlib import Path

import numpy as np
from PIL import Image

from sapnet_pipe.data.coco.masks import rle_area, rle_box
from sapnet_pipe.data.errors import UserError
from sapnet_pipe.data.exports.photographs import photograph, place_photograph, stems, without_photographs
from sapnet_pipe.data.exports.record import FormWriter, LabelledImage
from sapnet_pipe.data.exports.writers.index_masks import numbered, save_indices, voc_palette
from sapnet_pipe.data.exports.writers.xml_text import check_xml, element
from sapnet_pipe.data.images import read_image

_MOST = 254  # 255 is VOC's "void"
_JPEG = (".jpg", ".jpeg")


class Voc(FormWriter):
    """A folder: JPEGImages, SegmentationClass, SegmentationObject, Annotations, ImageSets, labelmap.txt."""

    def begin(self) -> None:
        """Check that all classes have a number, and write their names and colours and the splits."""
        names = self.job.class_names
        if len(names) > _MOST:
            problem = f"more than the {_MOST} that VOC's pictures can hold"
            raise UserError(self.job.source, "categories", len(names), problem, "Choose another form, such as png")
        for place, name in enumerate(names):
            check_xml(name, file=self.job.source, field=f"categories[{place}].name")
            if any(letter in name for letter in ":\r\n"):
                problem = "which VOC's list of classes cannot hold, for a colon or a line break"
                raise UserError(self.job.source, f"categories[{place}].name", name, problem, "Choose another name")
        self.stems = stems(self.job)
        for record in self.job.records:
            check_xml(record.file_name, file=self.job.source, field=f"image {record.image_id}.file_name")
            if any(letter in record.file_name for letter in "\r\n"):
                problem = "which VOC's lists of images cannot hold, for a line break"
                field = f"image {record.image_id}.file_name"
                raise UserError(self.job.source, field, record.file_name, problem, "Rename it")
        for folder in ("SegmentationClass", "SegmentationObject", "Annotations", "JPEGImages"):
            (self.path / folder).mkdir()
        colours = [",".join(map(str, colour)) for colour in voc_palette()[: len(names) + 1].tolist()]
        lines = [f"{name}:{colour}::" for name, colour in zip(("background", *names), colours, strict=True)]
        _write_lines(self.path / "labelmap.txt", ["# label:color_rgb:parts:actions", *lines])
        self._write_splits()
        self.converted = 0
        self.notes += without_photographs(self.job, "JPEGImages")

    def _write_splits(self) -> None:
        splits = {self.stems[key]: split for key, split in self.job.splits.items()}
        for task in ("Main", "Segmentation"):
            folder = self.path / "ImageSets" / task
            folder.mkdir(parents=True)
            _write_lines(folder / "trainval.txt", list(splits))
            for split in ("train", "val"):
                _write_lines(folder / f"{split}.txt", [stem for stem, own in splits.items() if own == split])

    def add(self, image: LabelledImage) -> None:
        """Write both pictures and the boxes of a photograph."""
        record, stem = image.record, self.stems[image.record.image_id]
        if len(image.objects) > _MOST:
            problem = f"on which are more objects than the {_MOST} that VOC's pictures can hold"
            hint = "Choose another form, such as png, or a higher --min-score"
            raise UserError(self.job.source, f"image {record.image_id}", len(image.objects), problem, hint)
        objects = numbered(image)
        classes = np.array([0, *(item.class_index + 1 for item in image.objects)], np.uint16)
        save_indices(objects, self.path / "SegmentationObject" / f"{stem}.png")
        save_indices(classes[objects], self.path / "SegmentationClass" / f"{stem}.png")
        pixels = np.bincount(objects.ravel(), minlength=len(image.objects) + 1)
        for number, item in enumerate(image.objects, 1):
            area = rle_area(item.counts, record.height, record.width)
            self.fidelity.add(item.object_id, record.file_name, int(pixels[number]) / area)
            self.fidelity.hidden += not pixels[number]
            self.fidelity.scores_dropped += item.score is not None
        self._write_boxes(image, stem)
        self._place_jpeg(image, stem)

    def _write_boxes(self, image: LabelledImage, stem: str) -> None:
        record = image.record
        size = element("width", str(record.width)) + element("height", str(record.height)) + element("depth", "3")
        lines = [
            "<annotation>",
            element("folder", "JPEGImages"),
            element("filename", f"{stem}.jpg"),
            f"<size>{size}</size>",
            element("segmented", "1"),
        ]
        for item in image.objects:
            left, top, right, bottom = rle_box(item.counts, record.height, record.width).astype(int).tolist()
            sides = {"xmin": left + 1, "ymin": top + 1, "xmax": right, "ymax": bottom}
            box = "".join(element(side, str(value)) for side, value in sides.items())
            name = element("name", self.job.class_names[item.class_index])
            lines.append(
                f"<object>{name}<pose>Unspecified</pose><truncated>0</truncated><difficult>0</difficult>"
                f"<bndbox>{box}</bndbox></object>"
            )
        path = self.path / "Annotations" / f"{stem}.xml"
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_lines(path, [*lines, "</annotation>"])

    def _place_jpeg(self, image: LabelledImage, stem: str) -> None:
        record, folder = image.record, self.path / "JPEGImages"
        source = photograph(self.job, record) if self.job.options.photographs != "none" else None
        if source is None:
            return
        if source.suffix.lower() in _JPEG:
            placed = place_photograph(self.job, record, folder, stem)
            if placed is not None and placed.suffix != ".jpg":
                placed.rename(placed.with_suffix(".jpg"))
            return
        pixels = read_image(source, record.height, record.width, file=self.job.source)
        path = folder / f"{stem}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path, "JPEG", quality=95)
        self.converted += 1

    def finish(self) -> None:
        """Say what became of photographs that are no JPEG files."""
        if self.converted:
            self.notes.append(f"{self.converted} photographs that are no JPEG files were written as such, quality 95.")


def _write_lines(path: Path, lines: list[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n")
