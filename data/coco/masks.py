"""Masks as COCO run-length codes (RLE).

A mask on disk and between stages is `counts`, the bytes of COCO's compressed code in original resolution; its height
and width are those of the image. Whatever is decoded, measured or compared is checked first: the C code of pycocotools
writes past its memory when a code breaks off in a number, and reads uninitialised memory, or never returns, when the
runs do not fill the image.
"""

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

Mask = NDArray[np.bool_]

_MOST_PIXELS = 1 << 32  # pycocotools counts in 32 bits


def encode_mask(mask: Mask) -> bytes:
    """(H, W) bool -> COCO compressed counts."""
    return encode_masks(mask[None])[0]


def encode_masks(masks: Mask) -> list[bytes]:
    """(N, H, W) bool -> N COCO compressed counts."""
    if not len(masks):
        return []
    columns_first = _transposed(masks)
    return [bytes(code["counts"]) for code in coco_mask.encode(columns_first.transpose(2, 1, 0))]


def decode_mask(counts: bytes, height: int, width: int) -> Mask:
    """COCO compressed counts -> (height, width) bool.

    Raises: ValueError if the counts are damaged or are not those of a mask of that size.
    """
    return decode_masks([counts], height, width)[0]


def decode_masks(counts: list[bytes], height: int, width: int) -> Mask:
    """N COCO compressed counts of one image -> (N, height, width) bool; ValueError as `decode_mask`."""
    columns_first = np.zeros((len(counts), width, height), np.bool_)
    for mask, code in zip(columns_first, counts, strict=True):
        runs = check_counts(code, height, width)
        mask.reshape(-1)[:] = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return _transposed(columns_first).view(np.bool_)


def rle_area(counts: bytes, height: int, width: int) -> int:
    """Number of True pixels. Raises: ValueError as `decode_mask`."""
    return int(check_counts(counts, height, width)[1::2].sum())


def rle_box(counts: bytes, height: int, width: int) -> NDArray[np.float32]:
    """(4,) float32 XYXY around the True pixels, right and bottom exclusive; zeros if there is none.

    Raises: ValueError as `decode_mask`.
    """
    return rle_area_and_box(counts, height, width)[1]


def rle_area_and_box(counts: bytes, height: int, width: int) -> tuple[int, NDArray[np.float32]]:
    """`rle_area` and `rle_box`, for the price of one check."""
    area = rle_area(counts, height, width)
    if not area:
        return 0, np.zeros(4, np.float32)
    x, y, box_width, box_height = coco_mask.toBbox(_code(counts, height, width))
    return area, np.array([x, y, x + box_width, y + box_height], np.float32)


def rle_iou(a: list[bytes], b: list[bytes], height: int, width: int) -> NDArray[np.float64]:
    """Intersection over union of every mask of `a` with every mask of `b`, all of one image.

    Returns: (len(a), len(b)) float64; 0 where both masks are empty.
    Raises: ValueError as `decode_mask`.
    """
    if not a or not b:
        return np.zeros((len(a), len(b)))
    iou = coco_mask.iou(_checked(a, height, width), _checked(b, height, width), [0] * len(b))
    return np.nan_to_num(np.asarray(iou, dtype=np.float64))


def rle_contains(counts: bytes, height: int, width: int, xy: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Whether each point (N, 2) of the image lies on a True pixel: (N,); ValueError as `decode_mask`."""
    ends = np.cumsum(check_counts(counts, height, width))
    column, row = np.floor(xy.astype(np.float64)).astype(np.int64).T
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    return np.asarray(inside & (np.searchsorted(ends, column * height + row, side="right") % 2 == 1))


def runs_of(counts: bytes) -> NDArray[np.int64]:
    """Lengths of the alternating runs (False first, column by column) that compressed counts stand for.

    Raises: ValueError if `counts` is not such a code.
    """
    sextets = np.frombuffer(counts, np.uint8).astype(np.int64) - 48
    if not sextets.size or sextets.min() < 0 or sextets.max() > 63:
        raise ValueError("the counts are empty or contain a character that COCO's code cannot hold")
    ends = np.flatnonzero(sextets < 32)
    if not ends.size or ends[-1] != sextets.size - 1:
        raise ValueError("the counts break off in the middle of a number")
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    if lengths.max() > 7:
        raise ValueError("the counts hold a number of more than 32 bits")
    places = np.arange(sextets.size) - np.repeat(starts, lengths)
    runs = np.add.reduceat((sextets & 31) << (5 * places), starts)
    runs -= np.where(sextets[ends] & 16, np.int64(1) << (5 * lengths), 0)
    # From the fourth number on the code holds differences to the last run of the same colour.
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    return runs


def check_counts(counts: bytes, height: int, width: int) -> NDArray[np.int64]:
    """The runs of `counts`; ValueError unless they are those of a mask of exactly height x width pixels."""
    runs = runs_of(counts)
    if runs.min() < 0:
        raise ValueError("the counts hold a run of negative length")
    if height * width >= _MOST_PIXELS:
        raise ValueError(f"{height} x {width} pixels are more than COCO's code can hold")
    if runs.sum() != height * width:
        raise ValueError(f"the counts cover {runs.sum()} pixels, not {height} x {width}")
    return runs


def counts_of_runs(runs: list[int], height: int, width: int) -> bytes:
    """Uncompressed RLE (runs that are known to fill height x width pixels) -> compressed counts."""
    return bytes(coco_mask.frPyObjects({"size": [height, width], "counts": runs}, height, width)["counts"])


def counts_of_polygons(polygons: list[list[float]], height: int, width: int) -> bytes:
    """Union of polygons [x1, y1, x2, y2, ...] (>= 3 vertices each) -> compressed counts, as pycocotools fills them."""
    codes = coco_mask.frPyObjects(polygons, height, width)
    return bytes((codes[0] if len(codes) == 1 else coco_mask.merge(codes))["counts"])


def _transposed(masks: Mask) -> NDArray[np.uint8]:
    """(N, A, B) bool -> (N, B, A) uint8, contiguous. OpenCV does this five times faster than NumPy."""
    count, rows, columns = masks.shape
    turned = np.empty((count, columns, rows), np.uint8)
    for mask, target in zip(np.ascontiguousarray(masks, np.bool_).view(np.uint8), turned, strict=True):
        cv2.transpose(mask, dst=target)
    return turned


def _code(counts: bytes, height: int, width: int) -> dict[str, object]:
    return {"size": [height, width], "counts": counts}


def _checked(counts: list[bytes], height: int, width: int) -> list[dict[str, object]]:
    for code in counts:
        check_counts(code, height, width)
    return [_code(code, height, width) for code in counts]
