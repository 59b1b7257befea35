"""Label Studio: tasks with predictions, and the labelling interface that shows them.

The score of a task is that of its least sure object: in ascending order of it reviewers see the least sure first.
Brushes are exact; polygons are in percent, a region for each part, holes filled.
"""

import json
from pathlib import PurePosixPath
from typing import Any, TextIO
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

import numpy as np

from sapnet_pipe.data.coco.document import ImageRecord
from sapnet_pipe.data.coco.masks import Mask, decode_mask
from sapnet_pipe.data.exports.fidelity import mask_iou
from sapnet_pipe.data.exports.record import FormWriter, LabelledImage, LabelledObject
from sapnet_pipe.data.exports.shapes.outlines import corners_of
from sapnet_pipe.data.exports.shapes.rasters import fill_as_coco
from sapnet_pipe.data.exports.writers.xml_text import check_xml

_DIGITS = 8  # of a percentage
_RUN_BITS = (3, 4, 8, 16)  # of the four lengths that a run may have


class LabelStudio(FormWriter):
    """A folder: tasks.json to import, and label_config.xml for the project's labelling interface."""

    file: TextIO

    def begin(self) -> None:
        """Write the labelling interface."""
        for place, name in enumerate(self.job.class_names):
            check_xml(name, file=self.job.source, field=f"categories[{place}].name")
        self.is_polygon = self.job.options.shape == "polygon"
        tag = "PolygonLabels" if self.is_polygon else "BrushLabels"
        labels = "".join(f"    <Label value={quoteattr(name)}/>\n" for name in dict.fromkeys(self.job.class_names))
        text = (
            '<View>\n  <Image name="image" value="$image" zoom="true"/>\n'
            f'  <{tag} name="label" toName="image">\n{labels}  </{tag}>\n</View>\n'
        )
        (self.path / "label_config.xml").write_text(text, encoding="utf-8", newline="\n")
        self.file = (self.path / "tasks.json").open("w", encoding="utf-8", newline="\n")
        self.open_files.append(self.file)
        self.file.write("[")
        self.written = 0

    def add(self, image: LabelledImage) -> None:
        """Write the task of an image."""
        record = image.record
        result = [region for item in image.objects for region in self._regions(item, record)]
        scores = [item.score for item in image.objects if item.score is not None]
        prediction: dict[str, Any] = {"model_version": "sapnet-pipe", "result": result}
        if scores:
            prediction["score"] = min(scores)
        name = PurePosixPath(record.file_name.replace("\\", "/")).as_posix()
        task = {
            "data": {"image": self.job.options.image_prefix + quote(name), "file_name": record.file_name},
            "predictions": [prediction],
        }
        self.file.write((",\n" if self.written else "\n") + json.dumps(task, allow_nan=False, ensure_ascii=False))
        self.written += 1

    def _regions(self, item: LabelledObject, record: ImageRecord) -> list[dict[str, Any]]:
        labels = [self.job.class_names[item.class_index]]
        if self.is_polygon:
            values = [
                {"points": points, "closed": True, "polygonlabels": labels} for points in self._points(item, record)
            ]
        else:
            rle = brush_rle(decode_mask(item.counts, record.height, record.width))
            values = [{"format": "rle", "rle": list(rle), "brushlabels": labels}]
            self.fidelity.add(item.object_id, record.file_name)
        common = {
            "type": "polygonlabels" if self.is_polygon else "brushlabels",
            "from_name": "label",
            "to_name": "image",
            "original_width": record.width,
            "original_height": record.height,
            "image_rotation": 0,
        } | ({} if item.score is None else {"score": item.score})
        return [
            {"id": f"{record.image_id}-{item.object_id}-{number}", **common, "value": value}
            for number, value in enumerate(values)
        ]

    def _points(self, item: LabelledObject, record: ImageRecord) -> list[list[list[float]]]:
        """The polygons of an object in percent of the image's size."""
        crop, size = item.crop(record), np.array([record.width, record.height])
        rings = self.outlines(crop.mask)
        self.fidelity.parts_split += len(rings) > 1
        percent = [np.round(100.0 * (corners_of(ring) + crop.corner) / size, _DIGITS) for ring in rings]
        read = [polygon / 100.0 * size - crop.corner for polygon in percent]
        self.fidelity.add(item.object_id, record.file_name, mask_iou(fill_as_coco(read, *crop.mask.shape), crop.mask))
        return [polygon.tolist() for polygon in percent]

    def finish(self) -> None:
        """Close the list of tasks."""
        self.file.write("\n]\n")


def brush_rle(mask: Mask) -> bytes:
    """(H, W) bool -> Label Studio's brush: runs of bytes of an RGBA picture that is 255 where the mask is.

    32 bits: how many bytes; 5 bits: bits of a byte, less one; 4 x 4 bits: the widths of a run's length, less one; then
    for each run a 1, two bits that choose a width, the length less one in so many bits, and the byte.
    """
    flat = mask.ravel()
    ends = np.append(np.flatnonzero(flat[1:] != flat[:-1]) + 1, flat.size)
    lengths = 4 * np.diff(ends, prepend=0)
    value = bool(flat[0])
    bits = [f"{4 * flat.size:032b}", f"{7:05b}", *(f"{width - 1:04b}" for width in _RUN_BITS)]
    longest = 1 << _RUN_BITS[-1]
    for length in lengths.tolist():
        byte = "11111111" if value else "00000000"
        while length:
            part = min(length, longest)
            choice = next(place for place, width in enumerate(_RUN_BITS) if part <= 1 << width)
            bits.append(f"1{choice:02b}{part - 1:0{_RUN_BITS[choice]}b}{byte}")
            length -= part
        value = not value
    text = "".join(bits)
    text += "0" * (-len(text) % 8)
    return int(text, 2).to_bytes(len(text) // 8, "big")
