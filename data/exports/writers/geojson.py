"""GeoJSON: a FeatureCollection for each photograph, in pixels, as QuPath reads it. Holes and parts are held."""

import json
from typing import Any

import numpy as np

from sapnet_pipe.data.coco.document import ImageRecord
from sapnet_pipe.data.exports.fidelity import mask_iou
from sapnet_pipe.data.exports.photographs import stems
from sapnet_pipe.data.exports.record import FormWriter, LabelledImage, LabelledObject
from sapnet_pipe.data.exports.shapes.outlines import Ring, corners_of, parts_of
from sapnet_pipe.data.exports.shapes.polygons import simplified
from sapnet_pipe.data.exports.shapes.rasters import fill_centres


class GeoJson(FormWriter):
    """A folder of .geojson files."""

    def begin(self) -> None:
        """Find the names of the files."""
        self.stems = stems(self.job)

    def add(self, image: LabelledImage) -> None:
        """Write the file of a photograph."""
        features = [self._feature(item, image.record) for item in image.objects]
        path = self.path / f"{self.stems[image.record.image_id]}.geojson"
        path.parent.mkdir(parents=True, exist_ok=True)
        text = ",\n".join(json.dumps(feature, allow_nan=False, ensure_ascii=False) for feature in features)
        path.write_text(f'{{"type": "FeatureCollection", "features": [\n{text}\n]}}\n', encoding="utf-8", newline="\n")

    def _feature(self, item: LabelledObject, record: ImageRecord) -> dict[str, Any]:
        crop, tolerance = item.crop(record), self.job.options.tolerance
        polygons: list[list[list[list[int]]]] = []
        read = []
        for part in parts_of(crop.mask):
            rings = [corners_of(simplified(ring, tolerance)) for ring in (part.outer, *part.holes)]
            read += [ring.astype(np.float64) for ring in rings]
            polygons.append([_closed(ring + crop.corner) for ring in rings])
        self.fidelity.add(item.object_id, record.file_name, mask_iou(fill_centres(read, *crop.mask.shape), crop.mask))
        is_one = len(polygons) == 1
        geometry = {"type": "Polygon", "coordinates": polygons[0]} if is_one else None
        name = self.job.class_names[item.class_index]
        properties = {"objectType": "annotation", "classification": {"name": name}, "object_id": item.object_id}
        return {
            "type": "Feature",
            "geometry": geometry or {"type": "MultiPolygon", "coordinates": polygons},
            "properties": properties if item.score is None else properties | {"measurements": {"score": item.score}},
        }


def _closed(ring: Ring) -> list[list[int]]:
    """(N, 2) -> corners with the first again at the end."""
    return [*ring.tolist(), ring[0].tolist()]
