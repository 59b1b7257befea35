"""Hugging Face `datasets`: a folder of Parquet files that `load_dataset` opens, a file for each split.

Masks are COCO's compressed RLE, which is exact: ``pycocotools.mask.decode({"size": [height, width], "counts": rle})``.
"""

import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sapnet_pipe.data.coco.masks import rle_area_and_box
from sapnet_pipe.data.exports.photographs import photograph, without_photographs
from sapnet_pipe.data.exports.record import FormWriter, LabelledImage, Split

_FILES: dict[Split, str] = {
    "train": "data/train-00000-of-00001.parquet",
    "val": "data/validation-00000-of-00001.parquet",
}
_IMAGES_AT_ONCE = 32  # rows of a group: photographs lie in memory until it is full


class HuggingFace(FormWriter):
    """A folder: data/ with a Parquet file for each split that has images."""

    files: dict[Split, pq.ParquetWriter]
    waiting: dict[Split, list[dict[str, Any]]]
    schema: pa.Schema
    has_photographs: bool

    def begin(self) -> None:
        """Open a file for each split."""
        self.has_photographs = self.job.images_dir is not None and self.job.options.photographs != "none"
        (self.path / "data").mkdir()
        schema = _schema(self.job.class_names, self.has_photographs)
        wanted = [split for split in _FILES if split in self.job.splits.values()]
        self.files = {
            split: pq.ParquetWriter(self.path / _FILES[split], schema, compression="zstd") for split in wanted
        }
        self.open_files += self.files.values()
        self.waiting = {split: [] for split in wanted}
        self.schema = schema
        if not self.has_photographs:
            self.notes += without_photographs(self.job, "a column of your own")

    def add(self, image: LabelledImage) -> None:
        """Write the row of an image."""
        split = self.job.splits[image.record.image_id]
        self.waiting[split].append(self._row(image))
        if len(self.waiting[split]) == _IMAGES_AT_ONCE:
            self._write(split)

    def _row(self, image: LabelledImage) -> dict[str, Any]:
        record = image.record
        objects: dict[str, list[Any]] = {name: [] for name, _, _ in _OBJECT_FIELDS}
        for item in image.objects:
            area, (left, top, right, bottom) = rle_area_and_box(item.counts, record.height, record.width)
            values = {
                "id": item.object_id,
                "category": item.class_index,
                "bbox": [float(value) for value in (left, top, right - left, bottom - top)],
                "area": area,
                "score": item.score,
                "rle": item.counts.decode("ascii"),
            }
            for name, value in values.items():
                objects[name].append(value)
            self.fidelity.add(item.object_id, record.file_name)
        row = {
            "image_id": record.image_id,
            "file_name": record.file_name,
            "height": record.height,
            "width": record.width,
            "objects": objects,
        }
        photo = photograph(self.job, record) if self.has_photographs else None
        return row if photo is None else {"image": {"bytes": photo.read_bytes(), "path": photo.name}} | row

    def _write(self, split: Split) -> None:
        if self.waiting[split]:
            self.files[split].write_table(pa.Table.from_pylist(self.waiting[split], self.schema))
            self.waiting[split].clear()

    def finish(self) -> None:
        """Write the rows that wait."""
        for split in self.files:
            self._write(split)


_OBJECT_FIELDS: tuple[tuple[str, pa.DataType, dict[str, Any] | None], ...] = (
    ("id", pa.int64(), {"dtype": "int64", "_type": "Value"}),
    ("category", pa.int64(), None),
    ("bbox", pa.list_(pa.float32(), 4), {"feature": {"dtype": "float32", "_type": "Value"}, "length": 4}),
    ("area", pa.int64(), {"dtype": "int64", "_type": "Value"}),
    ("score", pa.float32(), {"dtype": "float32", "_type": "Value"}),
    ("rle", pa.string(), {"dtype": "string", "_type": "Value"}),
)


def _schema(class_names: tuple[str, ...], has_photographs: bool) -> pa.Schema:
    """Columns, and beside them what `datasets` calls its features."""
    classes = {"names": list(dict.fromkeys(class_names)), "_type": "ClassLabel"}
    if len(classes["names"]) != len(class_names):
        classes = {"dtype": "int64", "_type": "Value"}  # it takes no name twice
    columns = [("image_id", pa.int64()), ("file_name", pa.string()), ("height", pa.int32()), ("width", pa.int32())]
    features: dict[str, Any] = {name: {"dtype": str(kind), "_type": "Value"} for name, kind in columns}
    objects = pa.struct([(name, pa.list_(kind)) for name, kind, _ in _OBJECT_FIELDS])
    features["objects"] = {
        name: {"feature": {"_type": "Sequence"} | (feature or classes), "_type": "Sequence"}
        for name, _, feature in _OBJECT_FIELDS
    }
    columns.append(("objects", objects))
    if has_photographs:
        columns.insert(0, ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])))
        features = {"image": {"_type": "Image"}} | features
    return pa.schema(columns, {"huggingface": json.dumps({"info": {"features": features}})})
