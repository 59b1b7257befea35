"""Where two choices of masks differ most, object by object: the strips of the paper's figures 5 to 7.

Each object is cut out of its photograph and shown once under every choice: the mask, its box, and the click.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from heapq import nsmallest
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from sapnet_pipe.data.coco.instances import ImageRecord
from sapnet_pipe.data.coco.masks import decode_mask, rle_box, rle_iou
from sapnet_pipe.data.images import read_image
from sapnet_pipe.data.photo_names import find_photograph
from sapnet_pipe.data.pixel_depth import AUTO, Depth
from sapnet_pipe.data.progress import progress_bar
from sapnet_pipe.pipeline.pictures.draw import Picture, write_picture

SHOWN = 12  # objects of one picture
_SIDE = 220  # pixels of a cell's side
_BAR, _GAP, _MARGIN = 20, 6, 0.25
_ABREAST = 2  # objects beside each other
# The paper's colours: the first choice green in a blue box, the last one yellow in a red box.
_FILL, _BOX = ((60, 200, 90), (250, 215, 50)), ((40, 90, 230), (230, 40, 40))
_TRUTH = ((235, 235, 235), (255, 255, 255))


@dataclass(frozen=True)
class Contrast:
    """One object under several choices.

    Attributes:
        xy: The click, in pixels of the photograph. name: Its category.
        masks: Compressed counts by the choice's title, in the order in which they are shown.
        truth: The true mask, or None where it is not known.
        agreement: IoU of the first and the last mask.
        near: Whether another click of its category lies in the boxes of the masks.
    """

    record: ImageRecord
    point_id: int
    xy: tuple[float, float]
    name: str
    masks: Mapping[str, bytes]
    truth: bytes | None
    agreement: float
    near: bool


def contrast_of(
    record: ImageRecord,
    point_id: int,
    name: str,
    clicks: Mapping[int, tuple[float, float]],
    masks: Mapping[str, bytes],
    truth: bytes | None,
) -> Contrast:
    """One object; `clicks` are those of its category in the photograph, its own among them."""
    size, codes = (record.height, record.width), list(masks.values())
    box = _around([rle_box(counts, *size) for counts in codes])
    others = [xy for key, xy in clicks.items() if key != point_id]
    near = any(box[0] <= x <= box[2] and box[1] <= y <= box[3] for x, y in others)
    agreement = float(rle_iou([codes[0]], [codes[-1]], *size)[0, 0])
    return Contrast(record, point_id, clicks[point_id], name, masks, truth, agreement, near)


def under(found: Contrast, *titles: str) -> Contrast:
    """The same object under some of its choices."""
    masks, size = {title: found.masks[title] for title in titles}, (found.record.height, found.record.width)
    agreement = float(rle_iou([masks[titles[0]]], [masks[titles[-1]]], *size)[0, 0])
    return replace(found, masks=masks, agreement=agreement)


def most_different(contrasts: Iterable[Contrast], count: int = SHOWN) -> list[Contrast]:
    """Those whose choices differ, the most different first; of however many, `count` are held at a time."""
    differing = (found for found in contrasts if found.agreement < 1)
    return nsmallest(count, differing, key=lambda found: (found.agreement, found.record.image_id, found.point_id))


def draw_contrasts(
    path: Path,
    contrasts: Iterable[Contrast],
    images_dir: Path,
    *,
    source: Path | str,
    depth: Depth = AUTO,
    quiet: bool,
) -> int:
    """Draw the most different of the objects into one picture; none is written where no choices differ.

    Args:
        source: What to blame for a photograph that cannot be read.
        depth: How more than 8 bits a channel become 8.
    Returns: how many objects it shows.
    """
    shown = most_different(contrasts)
    if not shown:
        return 0
    cells = []
    for found in progress_bar(shown, desc=path.stem, unit="object", quiet=quiet):
        record, field = found.record, f"image {found.record.image_id}.file_name"
        photograph = find_photograph(images_dir, record.file_name, file=source, field=field)
        pixels = read_image(photograph, record.height, record.width, depth=depth, file=source, field=field)
        cells.append(draw_contrast(pixels, found))
    abreast = min(_ABREAST, len(cells))
    cells += [np.full_like(cells[0], 255)] * (-len(cells) % abreast)
    rows = [np.concatenate(cells[first : first + abreast], axis=1) for first in range(0, len(cells), abreast)]
    write_picture(path, np.concatenate(rows))
    return len(shown)


def draw_contrast(pixels: Picture, found: Contrast) -> Picture:
    """The object under every choice, and as it is where that is known, with the IoU of each with the truth."""
    size = found.record.height, found.record.width
    window = _window([rle_box(counts, *size) for counts in (*found.masks.values(), *_known(found))], size)
    panels, last = [], len(found.masks) - 1
    for place, (title, counts) in enumerate(found.masks.items()):
        colours = (_FILL[place == last], _BOX[place == last])
        overlap = "" if found.truth is None else f" {float(rle_iou([counts], [found.truth], *size)[0, 0]):.2f}"
        panels.append(_panel(pixels, counts, found.xy, window, colours, f"{title}{overlap}"))
    for counts in _known(found):
        panels.append(_panel(pixels, counts, found.xy, window, _TRUTH, f"truth: {found.name}"))
    if found.truth is None:
        panels.insert(0, _panel(pixels, None, found.xy, window, _TRUTH, found.name))
    return _framed(panels)


def _known(found: Contrast) -> Iterator[bytes]:
    if found.truth is not None:
        yield found.truth


def _around(boxes: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """The hull (4,) of boxes that are not empty; zeros if all are."""
    filled = [box for box in boxes if box[2] > box[0]]
    if not filled:
        return np.zeros(4, np.float32)
    every = np.stack(filled)
    return np.concatenate([every[:, :2].min(axis=0), every[:, 2:].max(axis=0)])


def _window(boxes: Sequence[NDArray[np.float32]], size: tuple[int, int]) -> tuple[int, int, int]:
    """Left, top and side of a square about the boxes, with a margin; it may reach over the photograph's edge."""
    left, top, right, bottom = _around(boxes).tolist()
    side = max(24, round((1 + 2 * _MARGIN) * max(right - left, bottom - top)))
    side = min(side, max(size))
    return round((left + right - side) / 2), round((top + bottom - side) / 2), side


def _panel(
    pixels: Picture,
    counts: bytes | None,
    xy: tuple[float, float],
    window: tuple[int, int, int],
    colours: tuple[tuple[int, int, int], tuple[int, int, int]],
    title: str,
) -> Picture:
    """A square cut of the photograph with one mask, its box and the click, under its title."""
    left, top, side = window
    scale = _SIDE / side
    move = np.array([[scale, 0, -left * scale], [0, scale, -top * scale]], np.float32)
    smooth = cv2.INTER_LINEAR if scale >= 1 else cv2.INTER_AREA
    cut = cv2.warpAffine(pixels, move, (_SIDE, _SIDE), flags=smooth, borderValue=(255, 255, 255))
    canvas = cut.astype(np.float32)
    box = None
    if counts is not None:
        height, width = pixels.shape[:2]
        whole = decode_mask(counts, height, width).astype(np.uint8)
        mask = cv2.warpAffine(whole, move, (_SIDE, _SIDE), flags=cv2.INTER_NEAREST) > 0
        canvas[mask] = 0.45 * canvas[mask] + 0.55 * np.array(colours[0], np.float32)
        box = (rle_box(counts, height, width).reshape(2, 2) - (left, top)) * scale
    drawn = Image.fromarray(canvas.astype(np.uint8))
    draw = ImageDraw.Draw(drawn)
    if box is not None and (box[1] > box[0]).all():
        draw.rectangle([*box[0].tolist(), *(box[1] - 1).tolist()], outline=colours[1], width=2)
    x, y = (xy[0] - left) * scale, (xy[1] - top) * scale
    draw.ellipse((x - 4, y - 4, x + 4, y + 4), fill=(255, 255, 255), outline=(0, 0, 0), width=2)
    bar = Image.new("RGB", (_SIDE, _BAR), (255, 255, 255))
    ImageDraw.Draw(bar).text((3, 3), _shortened(title), fill=(20, 20, 20), font=ImageFont.load_default(13))
    return np.concatenate([np.asarray(bar), np.asarray(drawn)])


def _shortened(text: str) -> str:
    font = ImageFont.load_default(13)
    while len(text) > 1 and font.getlength(text) > _SIDE - 6:
        text = f"{text[:-2]}…"
    return text


def _framed(panels: Sequence[Picture]) -> Picture:
    """The panels side by side with white between them."""
    height = panels[0].shape[0] + _GAP
    row = np.full((height, len(panels) * (_SIDE + _GAP) + 2 * _GAP, 3), 255, np.uint8)
    for place, panel in enumerate(panels):
        row[: panel.shape[0], place * (_SIDE + _GAP) : place * (_SIDE + _GAP) + _SIDE] = panel
    return row
