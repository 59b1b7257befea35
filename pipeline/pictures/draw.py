"""Pictures for people: masks and points drawn over the photograph, panels side by side under their titles."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from sapnet_pipe.data.coco.masks import decode_mask
from sapnet_pipe.data.files import atomic_path

Picture = NDArray[np.uint8]
"""(H, W, 3) uint8 RGB."""
_TITLE_HEIGHT = 26
_MAX_PANEL_WIDTH, _MAX_ALONE = 480, 1200


@dataclass(frozen=True)
class Panel:
    """One picture of a strip.

    Attributes:
        title: Written above it.
        masks: COCO counts by object id, in the photograph's resolution; an id keeps its colour in every panel.
        points: (x, y) in pixels by object id.
        names: What to write beside a point, by object id.
    """

    title: str
    masks: Mapping[int, bytes]
    points: Mapping[int, tuple[float, float]]
    names: Mapping[int, str] = field(default_factory=dict)


class Label(NamedTuple):
    """A text and the corner (x, y), in pixels, of the box that it belongs to."""

    text: str
    x: float
    y: float


def draw_strip(image: Picture, panels: Sequence[Panel]) -> Picture:
    """The panels side by side, each the photograph with its masks and points on it; one alone is larger."""
    height, width = image.shape[:2]
    most = _MAX_PANEL_WIDTH if len(panels) > 1 else _MAX_ALONE
    scale = min(1.0, most / width) if width > most else max(1, 256 // width)
    strips = []
    for panel in panels:
        picture = draw_masks(image, panel.masks)
        size = (round(width * scale), round(height * scale))
        resized = cv2.resize(picture, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST)
        drawn = _draw_points(resized.astype(np.uint8), panel.points, scale)
        labels = {
            key: Label(name, *(scale * side + 6 for side in panel.points[key])) for key, name in panel.names.items()
        }
        strips.append(_titled(draw_labels(drawn, labels), panel.title))
        strips.append(np.full((strips[0].shape[0], 6, 3), 255, np.uint8))
    return np.concatenate(strips[:-1], axis=1)


def draw_masks(image: Picture, masks: Mapping[int, bytes]) -> Picture:
    """The image with every mask as a translucent colour and a crisp rim."""
    height, width = image.shape[:2]
    picture = image.astype(np.float32)
    rims = []
    for object_id, counts in masks.items():
        mask, colour = decode_mask(counts, height, width), object_colour(object_id)
        picture[mask] = 0.5 * picture[mask] + 0.5 * colour
        contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        rims.append((contours, colour))
    canvas = np.ascontiguousarray(picture.astype(np.uint8))
    for contours, colour in rims:
        cv2.drawContours(canvas, contours, -1, [float(channel) for channel in colour], 1, cv2.LINE_AA)
    return canvas


def object_colour(object_id: int) -> NDArray[np.float32]:
    """A vivid RGB colour; neighbouring ids differ by the golden angle in hue."""
    hue = int(180 * ((object_id * 0.618034) % 1.0))
    pixel = cv2.cvtColor(np.array([[[hue, 200, 255]]], np.uint8), cv2.COLOR_HSV2RGB)
    colour: NDArray[np.float32] = pixel[0, 0].astype(np.float32)
    return colour


def draw_labels(picture: Picture, labels: Mapping[int, Label]) -> Picture:
    """The picture with a plate at every label's corner, in its object's colour and wholly inside the picture.

    The labels are drawn from the last to the first, so that of two in one place the first can be read.
    """
    canvas = Image.fromarray(picture)
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(max(11, min(picture.shape[:2]) // 36))
    for object_id, label in reversed(list(labels.items())):
        _, _, right, bottom = draw.textbbox((0, 0), label.text, font=font)
        width, height = right + 4, bottom + 3
        x = max(0, min(label.x, canvas.width - width))
        y = max(0, min(label.y, canvas.height - height))
        red, green, blue = (int(channel) for channel in object_colour(object_id))
        ink = (0, 0, 0) if 3 * red + 6 * green + blue > 1200 else (255, 255, 255)
        draw.rectangle((x, y, x + width, y + height), fill=(red, green, blue))
        draw.text((x + 2, y + 1), label.text, fill=ink, font=font)
    return np.asarray(canvas)


def write_picture(path: Path, picture: Picture) -> None:
    """Write an image file in the format of its suffix (PNG where there is none to write), atomically."""
    kind = Image.registered_extensions().get(path.suffix.lower(), "PNG")
    kind = kind if kind in Image.SAVE else "PNG"
    with atomic_path(path) as temporary:
        Image.fromarray(picture).save(temporary, format=kind, quality=90)


def _draw_points(picture: Picture, points: Mapping[int, tuple[float, float]], scale: float) -> Picture:
    canvas = Image.fromarray(picture)
    draw = ImageDraw.Draw(canvas)
    for object_id, (x, y) in points.items():
        x, y = x * scale, y * scale
        colour = tuple(int(channel) for channel in object_colour(object_id))
        draw.ellipse((x - 4, y - 4, x + 4, y + 4), fill=colour, outline=(0, 0, 0))
    return np.asarray(canvas)


def _titled(picture: Picture, title: str) -> Picture:
    bar = Image.new("RGB", (picture.shape[1], _TITLE_HEIGHT), (255, 255, 255))
    ImageDraw.Draw(bar).text((4, 5), title, fill=(20, 20, 20), font=ImageFont.load_default(15))
    return np.concatenate([np.asarray(bar), picture])
