"""Dot images: a PNG of the photograph's size in which every object is a pixel or a blob on black.

The photograph is that of the file's name, without endings such as _dots or _gt. Where most marks are single pixels
every pixel is an object; otherwise every blob is, at its centre. They hold no classes: ``--category`` names one.
"""

from collections import Counter
from collections.abc import Iterator

import cv2
import numpy as np

from sapnet_pipe.data.points.click_file import ClickForm, PointsFile
from sapnet_pipe.data.points.marked_photos import Mark, MarkedPhoto

FORM = ClickForm("dot image", shift=0.5)
_MOST = 0.2  # of the pixels: what has more on it is no image of dots


def recognises(file: PointsFile) -> bool:
    """A PNG file for which a category was given, which no other file of pixels would be."""
    return file.category is not None and file.content.startswith(b"\x89PNG")


def photos(file: PointsFile, dropped: Counter[str]) -> Iterator[MarkedPhoto]:
    """The photograph of the file."""
    pixels = cv2.imdecode(np.frombuffer(file.content, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise ValueError("no PNG that can be read")
    colours = pixels[..., :3] if pixels.ndim == 3 else pixels[..., None]
    dots = np.asarray(colours.any(axis=2))
    if dots.mean() > _MOST:
        raise ValueError(f"{dots.mean():.0%} of its pixels are not black, so that it is no image of dots")
    name = file.photographs.photograph_of(file.path)
    height, width = dots.shape
    photo = MarkedPhoto(name or file.path.name, "name", size=(height, width))
    _, _, statistics, centres = cv2.connectedComponentsWithStats(np.asarray(dots, np.uint8), connectivity=8)
    areas = statistics[1:, cv2.CC_STAT_AREA]
    spots = centres[1:] if len(areas) and np.median(areas) > 1 else np.argwhere(dots)[:, ::-1]
    photo.marks.extend(Mark(float(x), float(y), None, f"dot {number}") for number, (x, y) in enumerate(spots, 1))
    yield photo
