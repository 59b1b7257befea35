"""How readers fill a polygon: each rule turns the numbers of a file into the pixels that its reader makes of them.

Polygons are float64 (N, 2) x, y; all give (height, width) bool.
"""

from collections.abc import Iterable, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from sapnet_pipe.data.coco.masks import Mask, counts_of_polygons, decode_mask

Polygon = NDArray[np.float64]


def fill_as_coco(polygons: Sequence[Polygon], height: int, width: int) -> Mask:
    """The union as pycocotools, Detectron2 and torchvision fill it."""
    return decode_mask(
        counts_of_polygons([polygon.ravel().tolist() for polygon in polygons], height, width), height, width
    )


def fill_as_opencv(polygon: Polygon, height: int, width: int) -> Mask:
    """As ultralytics and supervision: numbers are cut to whole pixels, and pixels on the line belong to the mask."""
    canvas = np.zeros((height, width), np.uint8)
    cv2.fillPoly(canvas, [polygon.astype(np.int32)], 1)
    return canvas.view(np.bool_)


def fill_as_labelme(polygons: Iterable[Polygon], height: int, width: int) -> Mask:
    """The union as labelme's own converters fill it, with Pillow, each polygon with its line."""
    canvas = Image.new("L", (width, height), 0)
    draw = ImageDraw.Draw(canvas)
    for polygon in polygons:
        draw.polygon([(float(x), float(y)) for x, y in polygon], outline=1, fill=1)
    return np.asarray(canvas).astype(np.bool_)


def fill_centres(rings: Iterable[Polygon], height: int, width: int) -> Mask:
    """Pixels whose centre an odd number of rings holds: geometry, as GeoJSON means it, holes left out."""
    crossings = np.zeros((height, width + 1), np.int64)
    for ring in rings:
        for (x0, y0), (x1, y1) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
            rows = np.arange(max(np.ceil(min(y0, y1) - 0.5), 0), min(np.ceil(max(y0, y1) - 0.5), height)).astype(int)
            if len(rows):
                x = x0 + (rows + 0.5 - y0) * (x1 - x0) / (y1 - y0)
                crossings[rows, np.clip(np.ceil(x - 0.5), 0, width).astype(int)] += 1
    return np.cumsum(crossings, axis=1)[:, :width] % 2 == 1
