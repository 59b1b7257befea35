"""Readers of the forms by their documented rules, written apart from the writers: object number -> (class name, mask).

Objects are numbered as they come in the files, photograph after photograph in the order of their ids.
"""

import base64
import csv
import io
import json
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
import pyarrow.parquet as pq
from PIL import Image, ImageDraw
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from sapnet_pipe.data.coco.masks import Mask
from tests.data.exports.conftest import CLASSES, NAMES, SIZE

HEIGHT, WIDTH = SIZE
Found = Iterator[tuple[str, Mask]]


def stems() -> list[str]:
    return [name.rpartition(".")[0] for name in NAMES.values()]


def read_coco(path: Path) -> Found:
    """pycocotools itself."""
    coco = COCO(path if path.is_file() else path / "labels.json")
    for annotation in coco.loadAnns(sorted(coco.anns)):
        yield coco.cats[annotation["category_id"]]["name"], coco.annToMask(annotation).astype(bool)


def read_yolo(path: Path) -> Found:
    """ultralytics: class and shares in float32, times the size, cut to int32, cv2.fillPoly."""
    for stem in stems():
        (text,) = path.glob(f"labels/*/{stem}.txt")
        for line in text.read_text().splitlines():
            index, *values = line.split()
            shares = np.array(values, np.float32).reshape(-1, 2)
            canvas = np.zeros(SIZE, np.uint8)
            cv2.fillPoly(canvas, [(shares * np.array([WIDTH, HEIGHT], np.float32)).astype(np.int32)], 1)
            yield CLASSES[int(index)], canvas.astype(bool)


def read_labelme(path: Path) -> Found:
    """labelme's shapes_to_label: shapes of one label and group are one instance; Pillow draws polygons."""
    for stem in stems():
        document = json.loads((path / f"{stem}.json").read_text(encoding="utf-8"))
        assert (document["imageHeight"], document["imageWidth"]) == SIZE
        instances: dict[tuple[str, object], Mask] = {}
        for number, shape in enumerate(document["shapes"]):
            key = shape["label"], shape["group_id"] or f"alone {number}"
            instances[key] = instances.get(key, np.zeros(SIZE, np.bool_)) | _labelme_shape(shape)
        yield from ((label, mask) for (label, _), mask in instances.items())


def _labelme_shape(shape: dict) -> Mask:
    canvas = Image.new("L", (WIDTH, HEIGHT), 0)
    if shape["shape_type"] == "polygon":
        ImageDraw.Draw(canvas).polygon([tuple(point) for point in shape["points"]], outline=1, fill=1)
        return np.asarray(canvas).astype(bool)
    whole = np.zeros(SIZE, np.bool_)
    (left, top), (right, bottom) = np.array(shape["points"]).astype(int)
    part = np.asarray(Image.open(io.BytesIO(base64.b64decode(shape["mask"]))))
    whole[top : bottom + 1, left : right + 1] = part
    return whole


def read_cvat(path: Path) -> Found:
    """CVAT 1.1: runs through the box row by row, background first."""
    for image in ElementTree.parse(path).getroot().findall("image"):
        for mask in image.findall("mask"):
            left, top, width, height = (int(mask.attrib[key]) for key in ("left", "top", "width", "height"))
            runs = [int(run) for run in mask.attrib["rle"].split(",")]
            tight = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(height, width)
            whole = np.zeros(SIZE, np.bool_)
            whole[top : top + height, left : left + width] = tight
            yield mask.attrib["label"], whole


def read_label_studio(path: Path) -> Found:
    """Label Studio's converter: brushes of runs, fourth of four channels; polygons in percent, filled as COCO does."""
    for task in json.loads((path / "tasks.json").read_text(encoding="utf-8")):
        for region in task["predictions"][0]["result"]:
            assert (region["original_height"], region["original_width"]) == SIZE
            value = region["value"]
            if region["type"] == "brushlabels":
                yield value["brushlabels"][0], _brush(bytes(value["rle"]))[3::4].reshape(SIZE) > 0
            else:
                polygon = np.array(value["points"]) * [WIDTH, HEIGHT] / 100
                code = coco_mask.frPyObjects([polygon.ravel().tolist()], HEIGHT, WIDTH)[0]
                yield value["polygonlabels"][0], coco_mask.decode(code).astype(bool)


def _brush(rle: bytes) -> np.ndarray:
    """The loop of label_studio_converter.brush.decode_rle."""
    bits, place = "".join(f"{byte:08b}" for byte in rle), 0

    def read(count: int) -> int:
        nonlocal place
        place += count
        return int(bits[place - count : place], 2)

    size, word = read(32), read(5) + 1
    widths = [read(4) + 1 for _ in range(4)]
    out, at = np.zeros(size, np.uint8), 0
    while at < size:
        is_run = read(1)
        end = at + 1 + read(widths[read(2)])
        if is_run:
            out[at:end] = read(word)
            at = end
        else:
            while at < end:
                out[at] = read(word)
                at += 1
    return out


def read_png(path: Path) -> Found:
    """Numbers of pixels, and the legend."""
    with (path / "legend.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            yield row["category"], np.asarray(Image.open(path / row["mask"])) == int(row["index"])


def read_voc(path: Path) -> Found:
    """Numbers of objects and classes; the names of classes by place."""
    names = [line.split(":")[0] for line in (path / "labelmap.txt").read_text(encoding="utf-8").splitlines()[1:]]
    for stem in (path / "ImageSets/Segmentation/trainval.txt").read_text(encoding="utf-8").splitlines():
        objects = np.asarray(Image.open(path / "SegmentationObject" / f"{stem}.png"))
        classes = np.asarray(Image.open(path / "SegmentationClass" / f"{stem}.png"))
        for number in np.unique(objects[objects > 0]):
            (index,) = np.unique(classes[objects == number])
            yield names[index], objects == number


def read_geojson(path: Path) -> Found:
    """Pixels whose centre lies in an odd number of rings."""
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    for stem in stems():
        for feature in json.loads((path / f"{stem}.geojson").read_text(encoding="utf-8"))["features"]:
            geometry = feature["geometry"]
            parts = geometry["coordinates"] if geometry["type"] == "MultiPolygon" else [geometry["coordinates"]]
            inside = np.zeros(SIZE, np.bool_)
            for ring in (ring for part in parts for ring in part):
                for (x0, y0), (x1, y1) in pairwise(ring):
                    if y0 != y1:
                        crosses = (min(y0, y1) <= y) & (y < max(y0, y1))
                        inside ^= crosses & (x0 + (y - y0) * (x1 - x0) / (y1 - y0) > x)
            yield feature["properties"]["classification"]["name"], inside


def read_huggingface(path: Path) -> Found:
    """Rows of both splits, RLE by pycocotools."""
    rows = [row for file in path.glob("data/*.parquet") for row in pq.read_table(file).to_pylist()]
    for row in sorted(rows, key=lambda row: row["image_id"]):
        objects = row["objects"]
        for category, rle in zip(objects["category"], objects["rle"], strict=True):
            yield CLASSES[category], coco_mask.decode({"size": [HEIGHT, WIDTH], "counts": rle}).astype(bool)


READERS: dict[str, Callable[[Path], Found]] = {
    "coco-polygons": read_coco,
    "yolo": read_yolo,
    "labelme": read_labelme,
    "cvat": read_cvat,
    "label-studio": read_label_studio,
    "png": read_png,
    "voc": read_voc,
    "geojson": read_geojson,
    "fiftyone": read_coco,
    "huggingface": read_huggingface,
}
