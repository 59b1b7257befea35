"""labelme: a JSON file for each photograph.

As polygons, the parts of an object share a `group_id` and holes are filled; as masks (labelme 5.3 and later) nothing is
lost. labelme's converters cut corners to whole pixels and draw the polygon with Pillow, line included. So the corners
are those of the pixels, moved inward a little: they name the outermost pixels, and the editor shows the mask's edge.
"""

import base64
import io
import json
from typing import Any

import numpy as np
from PIL import Image

from sapnet_pipe.data.coco.document import ImageRecord
from sapnet_pipe.data.exports.fidelity import mask_iou
from sapnet_pipe.data.exports.photographs import photograph, relative, stems
from sapnet_pipe.data.exports.record import Crop, FormWriter, LabelledImage, LabelledObject
from sapnet_pipe.data.exports.shapes.polygons import inset
from sapnet_pipe.data.exports.shapes.rasters import Polygon, fill_as_labelme

_INSET = 0.02  # pixels
_VERSION = "5.5.0"  # of the form that is written


class Labelme(FormWriter):
    """A folder of JSON files that name the photographs where they lie."""

    def begin(self) -> None:
        """Find the names of the files."""
        self.stems = stems(self.job)
        if self.job.images_dir is None:
            self.notes.append("the files name the photographs alone: put each beside its photograph, or give --images.")

    def add(self, image: LabelledImage) -> None:
        """Write the file of a photograph."""
        record, stem = image.record, self.stems[image.record.image_id]
        shapes = [shape for number, item in enumerate(image.objects, 1) for shape in self._shapes(item, record, number)]
        photo = photograph(self.job, record)
        beside = (self.target / f"{stem}.json").parent
        document: dict[str, Any] = {
            "version": _VERSION,
            "flags": {},
            "shapes": shapes,
            "imagePath": record.file_name.rpartition("/")[2] if photo is None else relative(photo, beside),
            "imageData": None,
            "imageHeight": record.height,
            "imageWidth": record.width,
        }
        path = self.path / f"{stem}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(document, ensure_ascii=False, indent=1) + "\n", encoding="utf-8", newline="\n")

    def _shapes(self, item: LabelledObject, record: ImageRecord, number: int) -> list[dict[str, Any]]:
        crop = item.crop(record)
        common: dict[str, Any] = {
            "label": self.job.class_names[item.class_index],
            "group_id": None,
            "description": "" if item.score is None else f"score={item.score:.6g}",
            "flags": {},
        }
        if self.job.options.shape == "mask":
            self.fidelity.add(item.object_id, record.file_name)
            return [common | _mask_shape(crop)]
        polygons = [np.round(inset(ring, _INSET), 3) for ring in self.outlines(crop.mask)]
        iou = mask_iou(fill_as_labelme(polygons, *crop.mask.shape), crop.mask)
        self.fidelity.add(item.object_id, record.file_name, iou)
        group = {"group_id": number if len(polygons) > 1 else None}
        return [
            common | group | {"shape_type": "polygon", "points": _points(polygon, crop), "mask": None}
            for polygon in polygons
        ]


def _points(polygon: Polygon, crop: Crop) -> list[list[float]]:
    return [[float(x), float(y)] for x, y in np.round(polygon + crop.corner, 3).tolist()]


def _mask_shape(crop: Crop) -> dict[str, Any]:
    """A shape of type mask: the pixels within the box as a PNG, and the box by its first and last pixel."""
    rows, columns = np.flatnonzero(crop.mask.any(axis=1)), np.flatnonzero(crop.mask.any(axis=0))
    inner = crop.mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    stream = io.BytesIO()
    Image.fromarray(inner.astype(np.uint8)).save(stream, "PNG")
    first = [float(crop.left + columns[0]), float(crop.top + rows[0])]
    last = [float(crop.left + columns[-1]), float(crop.top + rows[-1])]
    return {"shape_type": "mask", "points": [first, last], "mask": base64.b64encode(stream.getvalue()).decode("ascii")}
