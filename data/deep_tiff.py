"""The real numbers of TIFF and PNG files of more than 8 bits a channel, signed or of floats, of which Pillow reads few.

Of a TIFF the strips or tiles of the first page are decoded by OpenCV under a directory of their own, without the
entries by which it would turn or invert them; of planes, one after the other under the directory of a grey photograph.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin

_WIDTH, _LENGTH, _BITS, _COMPRESSION, _PHOTOMETRIC = 256, 257, 258, 259, 262
_STRIPS, _ORIENTATION, _SAMPLES, _STRIP_BYTES, _PLANAR = 273, 274, 277, 279, 284
_TILES, _TILE_BYTES, _SAMPLE_FORMAT = 324, 325, 339
# Beside these: fill order, rows of a strip, predictor, width and length of a tile.
_KEPT = (_WIDTH, _LENGTH, _BITS, _COMPRESSION, 266, _SAMPLES, 278, 317, 322, 323, _SAMPLE_FORMAT)
_UNSIGNED, _SIGNED, _FLOAT = 1, 2, 3
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB = 0, 1, 2


class UnreadableDepthError(Exception):
    """The pixels are of a kind that nothing here decodes; the message says of which."""


@dataclass(frozen=True)
class DeepTiff:
    """The first page of a file.

    Attributes:
        tags: Of its directory, as Pillow has them.
        bits: Of a sample. kind: u, i or f.
        orientation: EXIF's, 1 to 8.
        has_pages: Whether there are more.
    """

    path: Path
    tags: Mapping[int, Any]
    height: int
    width: int
    bits: int
    kind: str
    orientation: int
    has_pages: bool

    @property
    def is_white_zero(self) -> bool:
        """Whether the smallest value is white."""
        return bool(self.tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO)

    def pixels(self) -> NDArray[Any]:
        """(H, W), or (H, W, 3) RGB, of the type in the file, as they lie on disk.

        Raises: UnreadableDepthError for numbers or a compression that OpenCV does not know; OSError for damaged ones.
        """
        content = bytearray(self.path.read_bytes())
        samples = int(self.tags.get(_SAMPLES, 1))
        is_rgb = self.tags.get(_PHOTOMETRIC) == _RGB
        if samples == 1:
            return self._decoded(content, {})
        if samples < 3 or not is_rgb:
            raise UnreadableDepthError(f"{samples} channels that are not RGB")
        if self.tags.get(_PLANAR, 1) == 2:
            return np.dstack([self._decoded(content, self._plane(place, samples)) for place in range(3)])
        pixels = self._decoded(content, {_PHOTOMETRIC: _RGB})
        return pixels[:, :, 2::-1]

    def _plane(self, place: int, samples: int) -> dict[int, Any]:
        changed: dict[int, Any] = {_SAMPLES: 1, _BITS: self.bits, _SAMPLE_FORMAT: self._first(_SAMPLE_FORMAT)}
        for tag in (_STRIPS, _STRIP_BYTES, _TILES, _TILE_BYTES):
            if tag in self.tags:
                values = _several(self.tags[tag])
                count = len(values) // samples
                changed[tag] = values[place * count : (place + 1) * count]
        return changed

    def _first(self, tag: int) -> int:
        return int(_several(self.tags.get(tag, _UNSIGNED))[0])

    def _decoded(self, content: bytearray, changed: Mapping[int, Any]) -> NDArray[Any]:
        kept = {tag: self.tags[tag] for tag in (*_KEPT, _STRIPS, _STRIP_BYTES, _TILES, _TILE_BYTES) if tag in self.tags}
        written = _with_directory(content, {_PHOTOMETRIC: _BLACK_IS_ZERO, **kept, **changed})
        pixels = _by_opencv(written)
        if pixels is None:
            pixels = self._by_pillow()
        elif self.bits in (10, 12, 14):  # OpenCV moves them to the highest of 16
            pixels >>= 16 - self.bits
        if pixels.shape[:2] != (self.height, self.width):
            raise OSError(f"{pixels.shape[1]} x {pixels.shape[0]} pixels in place of {self.width} x {self.height}")
        return pixels.view(f"{self.kind}{pixels.itemsize}") if self.kind != "f" else pixels

    def _by_pillow(self) -> NDArray[Any]:
        """Grey in a compression that only Pillow's libtiff knows."""
        try:
            with Image.open(self.path, formats=("TIFF",)) as image:
                if image.mode in ("I;16", "I;16B", "I;16L", "I;16N", "F") and self.orientation == 1:
                    return np.asarray(image).astype(np.float32 if image.mode == "F" else np.uint16)
        except Image.UnidentifiedImageError:
            pass
        names = {"u": "whole numbers", "i": "signed numbers", "f": "floats"}
        compression = self.tags.get(_COMPRESSION, 1)
        raise UnreadableDepthError(f"{names[self.kind]} of {self.bits} bits, compression {compression}")


def deep_tiff(path: Path) -> DeepTiff | None:
    """The first page of a TIFF whose grey or RGB has more than 8 bits, a sign or floats; None for any other file."""
    try:
        with path.open("rb") as file:
            head = file.read(8)
            if head[:2] not in (b"II", b"MM"):
                return None
            head += file.read(8) if 43 in head[2:4] else b""
            directory = TiffImagePlugin.ImageFileDirectory_v2(head)
            file.seek(directory.next)
            directory.load(file)
            tags, has_pages = dict(directory), directory.next != 0
        bits = max(map(int, _several(tags.get(_BITS, 1))))
        form = int(_several(tags.get(_SAMPLE_FORMAT, _UNSIGNED))[0])
        if tags.get(_PHOTOMETRIC, _BLACK_IS_ZERO) not in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB):
            return None
        if form not in (_UNSIGNED, _SIGNED, _FLOAT) or (bits <= 8 and form == _UNSIGNED):
            return None
        orientation = int(tags.get(_ORIENTATION, 1))
        height, width = int(tags[_LENGTH]), int(tags[_WIDTH])
    except FileNotFoundError:
        raise
    except Exception:  # whatever a damaged directory makes Pillow raise: its own reader says what is wrong
        return None
    kind = {_UNSIGNED: "u", _SIGNED: "i", _FLOAT: "f"}[form]
    return DeepTiff(path, tags, height, width, bits, kind, orientation if orientation in range(1, 9) else 1, has_pages)


def _several(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def _by_opencv(content: bytes | bytearray) -> NDArray[Any] | None:
    """Decoded as they are, BGR; None if OpenCV cannot, of which it would write to the terminal."""
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        return None
    finally:
        cv2.utils.logging.setLogLevel(level)


def deep_png(path: Path) -> NDArray[Any] | None:
    """(H, W, 3) uint16 RGB of a PNG of 16 bits, in colour or with alpha, which is dropped; None for any other.

    Pillow keeps 8 of the 16 bits, and forgets how many there were. Raises: OSError if it is damaged.
    """
    with path.open("rb") as file:
        head = file.read(26)
    if head[24:25] != b"\x10" or head[25:26] not in (b"\2", b"\4", b"\6"):
        return None
    pixels = _by_opencv(path.read_bytes())
    if pixels is None:
        raise OSError("broken data stream")
    return pixels[:, :, 2::-1] if pixels.ndim == 3 else np.repeat(pixels[:, :, None], 3, axis=2)


def _with_directory(content: bytearray, tags: Mapping[int, Any]) -> bytes:
    """The file with another directory at its end, in which all values are whole numbers of 32 bits."""
    order = "<" if content[:2] == b"II" else ">"
    start = len(content) + len(content) % 2
    entries, extra = b"", b""
    after = start + 2 + 12 * len(tags) + 4
    for tag, value in sorted(tags.items()):
        values = [int(one) for one in _several(value)]
        packed = struct.pack(f"{order}{len(values)}I", *values)
        where = packed if len(values) == 1 else struct.pack(f"{order}I", after + len(extra))
        extra += b"" if len(values) == 1 else packed
        entries += struct.pack(f"{order}HHI", tag, 4, len(values)) + where
    head = content[:2] + struct.pack(f"{order}HI", 42, start)
    directory = struct.pack(f"{order}H", len(tags)) + entries + b"\0" * 4
    return bytes(head + content[8:]) + b"\0" * (len(content) % 2) + directory + extra
