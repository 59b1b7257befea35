"""YOLO segmentation: a text file for each photograph, a line for each object, and data.yaml.

A line is the class and one polygon in shares of the width and height. Readers multiply, cut (ultralytics) or round
(supervision) to whole pixels and count the pixels on the line as inside. So the corners lie in the outermost pixels of
the mask, just short of their centres: both readers find the mask, and what ultralytics fills after it has resized a
photograph is as large as the mask, not a pixel larger. Polygons along the edges of the pixels would be, by both rules.
"""

import numpy as np

from sapnet_pipe.data.exports.fidelity import mask_iou
from sapnet_pipe.data.exports.photographs import place_photograph, stems, without_photographs
from sapnet_pipe.data.exports.record import Crop, FormWriter, LabelledImage
from sapnet_pipe.data.exports.shapes.polygons import in_pixels, joined
from sapnet_pipe.data.exports.shapes.rasters import Polygon, fill_as_opencv

_PLACE = 0.4, 0.48  # in a pixel: no rounding moves a corner past its centre; two, so that no polygon is without area
_DIGITS = 8


class Yolo(FormWriter):
    """A folder: data.yaml, images/train, images/val, labels/train, labels/val."""

    def begin(self) -> None:
        """Make the folders and data.yaml."""
        self.stems = stems(self.job)
        for kind in ("images", "labels"):
            for split in ("train", "val"):
                (self.path / kind / split).mkdir(parents=True)
        has_val = "val" in self.job.splits.values()
        names = "".join(f"  {index}: {yaml_text(name)}\n" for index, name in enumerate(self.job.class_names))
        text = f"train: images/train\nval: images/{'val' if has_val else 'train'}\nnames:\n{names}"
        (self.path / "data.yaml").write_text(text, encoding="utf-8", newline="\n")
        self.notes += without_photographs(self.job, "images/train and images/val")
        if not has_val:
            self.notes.append("there is no part to validate on: data.yaml names the photographs of the training.")

    def add(self, image: LabelledImage) -> None:
        """Write the text file of a photograph, empty if nothing is on it."""
        record = image.record
        split, stem = self.job.splits[record.image_id], self.stems[record.image_id]
        place_photograph(self.job, record, self.path / "images" / split, stem)
        lines = []
        for item in image.objects:
            crop = item.crop(record)
            polygon = self._polygon(crop) / [record.width, record.height]
            written = np.round(polygon, _DIGITS)
            lines.append(" ".join([str(item.class_index), *(f"{value:.{_DIGITS}g}" for value in written.ravel())]))
            filled = fill_as_opencv(_as_read(written, record.width, record.height, crop), *crop.mask.shape)
            self.fidelity.add(item.object_id, record.file_name, mask_iou(filled, crop.mask))
            self.fidelity.scores_dropped += item.score is not None
        path = self.path / "labels" / split / f"{stem}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n")

    def _polygon(self, crop: Crop) -> Polygon:
        """The mask as one polygon in pixels of the image."""
        rings = self.outlines(crop.mask)
        self.fidelity.parts_joined += len(rings) > 1
        return in_pixels(joined(rings), *_PLACE) + crop.corner


def _as_read(shares: Polygon, width: int, height: int, crop: Crop) -> Polygon:
    """The polygon in whole pixels of the crop, through the float32 that readers keep it in."""
    pixels = shares.astype(np.float32) * np.array([width, height], np.float32)
    return np.asarray(np.trunc(pixels) - crop.corner, np.float64)


def yaml_text(text: str) -> str:
    """Any text as a double-quoted scalar of YAML."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    letters = (letter if letter.isprintable() else f"\\U{ord(letter):08x}" for letter in escaped)
    return '"' + "".join(letters) + '"'
