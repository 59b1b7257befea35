"""Which dialect a run-length code or polygon is written in that is not COCO's.

COCO: runs column by column, beginning with background, ``{"size": [height, width], "counts": [...]}``, or those runs
compressed into a string; or polygons ``[[x1, y1, x2, y2, ...], ...]``.
"""

import base64
import binascii
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sapnet_pipe.data.coco.masks import check_counts
from sapnet_pipe.data.errors import FaultKind


def _kind(name: str, problem: str, hint: str) -> FaultKind:
    return FaultKind(f"masks-{name}", f"masks {problem}", hint)


_ENCODE = "Decode them to arrays and encode these with pycocotools.mask.encode, counts as text"
TEXT = _kind(
    "bytes-as-text",
    "have counts of the form b'...', the text of a Python bytes object",
    "Write counts.decode(), not str(counts)",
)
BASE64 = _kind("base64", "have counts in base64, as Open Images has", "Decode base64 (and zlib): that is COCO's counts")
NUMBERS = _kind("start-length", "are pairs of start and length, as Kaggle has", _ENCODE)
BYTES = _kind(
    "bytes-as-numbers",
    "have the bytes of compressed counts as a list of numbers",
    "Write bytes(counts).decode() instead of the list",
)
LABEL_STUDIO = _kind(
    "label-studio", "are Label Studio's brush strokes (a list of bytes)", "Export as PNG or COCO from Label Studio"
)
CVAT = _kind("cvat", "are CVAT's runs, which end in the mask's box", "Export as COCO 1.0 from CVAT")
DENSE = _kind("dense", "are whole arrays of pixels (uint8 or bool), not RLE", "Encode them: pycocotools.mask.encode")
ROW_MAJOR = _kind(
    "row-major", "have runs row by row; COCO counts column by column", "Encode np.asfortranarray(mask) instead"
)
INVERTED = _kind("inverted", "begin with the object; COCO's runs begin with background", "Put a 0 before the runs")
SWAPPED_SIZE = _kind("size-swapped", "have size = [width, height]", "Write size as [height, width]")
OTHER_SIZE = _kind("of-another-size", "are of another size than their image", "Give masks in the image's own size")
NO_SIZE = _kind("without-size", "are RLE without a size", "Add size: [height, width]")
FLAT = _kind("polygon-flat", "are one flat polygon, not a list of polygons", "Put another pair of brackets around it")
FLOATS = _kind("float-runs", "have runs that are not whole numbers", "Write the runs as whole numbers")


def dialect_of(segmentation: Any, height: int, width: int) -> FaultKind | None:
    """The dialect of a segmentation that is not COCO's; None if it is, or if the dialect is not known."""
    if isinstance(segmentation, str):
        return _of_text(segmentation, height, width)
    if isinstance(segmentation, list) and segmentation:
        return _of_list(segmentation, height, width)
    if not isinstance(segmentation, dict):
        return None
    if isinstance(segmentation.get("rle"), list):
        return LABEL_STUDIO
    size, counts = segmentation.get("size"), segmentation.get("counts")
    if isinstance(counts, str):
        found = _of_text(counts, height, width)
    else:
        found = _of_runs(counts, height, width) if isinstance(counts, list) else None
    if found is not None:
        return found
    if size is None and counts is not None:
        return NO_SIZE
    if isinstance(size, list) and size != [height, width]:
        return SWAPPED_SIZE if size == [width, height] else OTHER_SIZE
    return None


def order_of_runs(runs: list[int], height: int, width: int, box_xywh: Sequence[float] | None) -> FaultKind | None:
    """Whether runs that fill the image were counted row by row, or begin with the object; None if neither shows.

    The annotation's own box tells. Without one that fits, the outline does: runs in the wrong order make a mask of
    stripes (unless the image is as high as wide, where they only exchange x and y).
    """
    flat = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    by_column, by_row = flat.reshape(width, height).T, flat.reshape(height, width)
    if box_xywh is not None:
        readings = {None: by_column, INVERTED: ~by_column, ROW_MAJOR: by_row}
        misses = {kind: _box_distance(mask, box_xywh) for kind, mask in readings.items()}
        best = min(misses, key=lambda kind: misses[kind])
        if misses[best] < 3:
            return best if misses[None] > 6 else None
    return ROW_MAJOR if 3 * _edges(by_row) < _edges(by_column) else None


def _of_text(text: str, height: int, width: int) -> FaultKind | None:
    if _is_code(text.encode("ascii", "replace"), height, width):
        return None
    if text[:2] in ("b'", 'b"') and text[-1:] == text[1:2]:
        return TEXT
    if text.strip() and all(part.isdigit() for part in text.replace(",", " ").split()):
        return NUMBERS
    return BASE64 if _is_base64(text, height, width) else None


def _of_list(values: list[Any], height: int, width: int) -> FaultKind | None:
    if all(type(value) in (int, float) for value in values):
        return _of_runs(values, height, width) or (FLAT if len(values) >= 6 and not len(values) % 2 else None)
    if not all(isinstance(value, list) for value in values):
        return None
    dense = len(values) == height and all(len(row) == width for row in values) and _is_binary(values[0])
    return DENSE if dense else None


def _of_runs(values: list[Any], height: int, width: int) -> FaultKind | None:
    pixels = height * width
    if any(type(value) is float for value in values):
        return FLOATS if all(type(v) in (int, float) for v in values) and sum(values) == pixels else None
    if not all(type(value) is int and value >= 0 for value in values) or sum(values) == pixels:
        return None
    if len(values) == pixels and _is_binary(values):
        return DENSE
    if max(values, default=256) < 256:
        if _is_code(bytes(values), height, width):
            return BYTES
        if len(values) > 4 and int.from_bytes(bytes(values[:4]), "big") in (pixels, 4 * pixels):
            return LABEL_STUDIO
    if len(values) > 4:
        left, top, right, bottom = values[-4:]
        if sum(values[:-4]) == (right - left + 1) * (bottom - top + 1):
            return CVAT
    return NUMBERS if _are_pairs(values, pixels) else None


def _are_pairs(values: list[int], pixels: int) -> bool:
    """Starts that rise past the end of the run before, the last within the image."""
    if len(values) < 2 or len(values) % 2:
        return False
    start, end = np.array(values[::2]), np.array(values[::2]) + np.array(values[1::2])
    return bool((start[1:] >= end[:-1]).all() and end[-1] <= pixels + 1)


def _is_code(code: bytes, height: int, width: int) -> bool:
    try:
        check_counts(code, height, width)
    except ValueError:
        return False
    return True


def _is_base64(text: str, height: int, width: int) -> bool:
    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return False
    if _is_code(content, height, width):
        return True
    try:
        return len(content) > 0 and len(zlib.decompress(content)) > 0
    except zlib.error:
        return False


def _is_binary(values: list[Any]) -> bool:
    return all(type(value) in (int, bool) and value in (0, 1, 255) for value in values)


def _box_distance(mask: NDArray[np.bool_], box_xywh: Sequence[float]) -> float:
    """Largest distance in pixels between a side of the mask's box and that of the given one."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return float("inf")
    x, y, box_width, box_height = box_xywh
    sides = ((columns[0], x), (rows[0], y), (columns[-1] + 1, x + box_width), (rows[-1] + 1, y + box_height))
    return float(max(abs(own - given) for own, given in sides))


def _edges(mask: NDArray[np.bool_]) -> int:
    """Neighbouring pixels of which one is in the mask and one is not."""
    return int((mask[1:] != mask[:-1]).sum() + (mask[:, 1:] != mask[:, :-1]).sum())
