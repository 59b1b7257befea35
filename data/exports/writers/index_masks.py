"""PNG index masks: a picture for each photograph in which every object has its number, and a legend.

Up to 255 objects are 8 bits with a palette, more are 16 bits of grey. Where objects overlap the smaller lies on top.
"""

import csv
from pathlib import Path
from typing import TextIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sapnet_pipe.data.coco.masks import decode_mask, rle_area
from sapnet_pipe.data.errors import UserError
from sapnet_pipe.data.exports.photographs import stems
from sapnet_pipe.data.exports.record import FormWriter, LabelledImage

_MOST = 65_535
_MOST_IN_PALETTE = 255


class IndexMasks(FormWriter):
    """A folder: masks/, and legend.csv, which says what each number of each picture is."""

    file: TextIO

    def begin(self) -> None:
        """Begin the legend."""
        self.stems = stems(self.job)
        (self.path / "masks").mkdir()
        self.file = (self.path / "legend.csv").open("w", encoding="utf-8", newline="")
        self.open_files.append(self.file)
        self.legend = csv.writer(self.file, lineterminator="\n")
        self.legend.writerow(
            ("file_name", "mask", "index", "object_id", "category_id", "category", "score", "pixels", "iou")
        )

    def add(self, image: LabelledImage) -> None:
        """Write the picture of a photograph and its lines of the legend."""
        record = image.record
        if len(image.objects) > _MOST:
            problem = f"on which are more than {_MOST} objects"
            raise UserError(
                self.job.source, f"image {record.image_id}", len(image.objects), problem, "Cut it into tiles"
            )
        indices = numbered(image)
        name = f"masks/{self.stems[record.image_id]}.png"
        save_indices(indices, self.path / name)
        pixels = np.bincount(indices.ravel(), minlength=len(image.objects) + 1)
        for index, item in enumerate(image.objects, 1):
            area = rle_area(item.counts, record.height, record.width)
            iou = int(pixels[index]) / area  # what is left of a mask lies in it
            category = self.job.categories[item.class_index]
            score = "" if item.score is None else f"{item.score:.6g}"
            known = (record.file_name, name, index, item.object_id, category.category_id, category.name)
            self.legend.writerow((*known, score, int(pixels[index]), f"{iou:.6f}"))
            self.fidelity.add(item.object_id, record.file_name, iou)
            self.fidelity.hidden += not pixels[index]


def numbered(image: LabelledImage) -> NDArray[np.uint16]:
    """(H, W) uint16: the place of the object from 1 on, 0 for none; the smaller of two lies on top."""
    height, width = image.record.height, image.record.width
    canvas = np.zeros((height, width), np.uint16)
    areas = [rle_area(item.counts, height, width) for item in image.objects]
    for place in sorted(range(len(areas)), key=lambda place: (-areas[place], place)):
        canvas[decode_mask(image.objects[place].counts, height, width)] = place + 1
    return canvas


def save_indices(indices: NDArray[np.uint16], path: Path) -> None:
    """Write a picture of numbers as PNG: with VOC's palette if 8 bits are enough, else 16 bits of grey."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if indices.max(initial=0) > _MOST_IN_PALETTE:
        Image.fromarray(indices).save(path, "PNG")
        return
    picture = Image.fromarray(indices.astype(np.uint8))
    picture.putpalette(voc_palette().ravel().tolist())
    picture.save(path, "PNG")


def voc_palette() -> NDArray[np.uint8]:
    """(256, 3) uint8: the colours of PASCAL VOC's development kit, of which 0 is black."""
    index = np.arange(256)[:, None]
    colours = np.zeros((256, 3), np.int64)
    for bit in range(8):
        colours |= ((index >> (3 * bit + np.arange(3))) & 1) << (7 - bit)
    return colours.astype(np.uint8)
