"""Reading photographs of every common kind as 8-bit RGB, turned the way their annotations were made."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from os import PathLike
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, PngImagePlugin, TiffImagePlugin, features
from PIL.TiffImagePlugin import BITSPERSAMPLE, IMAGELENGTH, IMAGEWIDTH, PLANAR_CONFIGURATION, TiffImageFile

from sapnet_pipe.data.errors import FaultReport, UserError, mended

MAX_PIXELS = "SAPNET_MAX_PIXELS"
"""Environment variable: pixels of the largest photograph that is read, in place of Pillow's limit of 178,956,970."""

# Pillow would open far more, of which some runs other programs (EPS), and no camera or microscope writes the rest.
_FORMATS = ("AVIF", "BMP", "DIB", "GIF", "HEIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TIFF", "WEBP")
_PAGES = mended("photographs-of-many-pages", "photographs have more than one page or frame", "The first is read")
_SIXTEEN_BITS = mended(
    "photographs-of-16-bits",
    "photographs have 16 bits of grey",
    "Of the bits that a photograph uses the top 8 are read",
)
_ORIENTATION = 0x0112
_UNDO_QUARTER_TURN = {
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
_DEEP_GREY = ("I", "I;16", "I;16L", "I;16B", "I;16N")


def read_image(
    path: Path,
    height: int | None,
    width: int | None,
    *,
    file: str | PathLike[str] | None = None,
    field: str = "file_name",
) -> NDArray[np.uint8]:
    """Decode an image to RGB.

    EXIF orientation: the annotation decides. If its size is that of the turned image (as viewers show it), the image
    is turned; if only the raw size fits, it is left as it lies on disk. Where both fit (half turns, mirrored and square
    images), and without a size, it is turned. Grey, palette and CMYK become RGB; of 16-bit grey the top 8 bits of those
    in use are kept (of 8, 10, 12, 14 or 16: cameras of 12 bits fill the lower ones); of several pages the first is
    read; transparency is dropped without blending.

    Args:
        height, width: Size that the annotation file gives in pixels, or None to take the image as viewers show it.
        file, field: The annotation file and its field to blame; the image itself if there is none.
    Returns: (H, W, 3) uint8 RGB.
    Raises: UserError if the image is missing, not an image, truncated, too large, or of another size.
    """
    blamed = (path if file is None else file, field)
    with _opened(path, blamed) as image:
        turn = _should_turn(image, height, width, path, blamed)
        if _is_misread(image):
            problem = "a TIFF of 16 bits that keeps each colour apart (planar)"
            raise UserError(*blamed, str(path), problem, "Convert it to 8 bits, or to interleaved colours")
        return _to_rgb(_loaded(image, turn), path, blamed)


@cache
def suffixes() -> frozenset[str]:
    """In small letters, of what counts as a photograph in a folder: of all formats that are read here."""
    return frozenset(suffix for suffix, name in Image.registered_extensions().items() if name in _formats())


def image_size(
    path: Path,
    *,
    file: str | PathLike[str] | None = None,
    field: str = "file_name",
    report: FaultReport | None = None,
) -> tuple[int, int]:
    """(height, width) in pixels as viewers show the image, EXIF orientation applied, without decoding it.

    Args:
        report: Is told if only a part of the image will be read.
    Raises: UserError if the file is missing or is not an image.
    """
    with _opened(path, (path if file is None else file, field)) as image:
        if report is not None:
            _report_parts(image, path, field, report)
        return _turned_size(image)


def image_sizes(path: Path, report: FaultReport | None = None) -> tuple[tuple[int, int], tuple[int, int]]:
    """(height, width) as the pixels lie on disk, and as viewers show the image; see `image_size`."""
    with _opened(path, (path, "file_name")) as image:
        if report is not None:
            _report_parts(image, path, "file_name", report)
        return _raw_size(image), _turned_size(image)


@cache
def _formats() -> tuple[str, ...]:
    """Those of `_FORMATS` that this Pillow can open; the first call makes it ready for what photographs are."""
    Image.init()
    if find_spec("pillow_heif"):
        import pillow_heif

        pillow_heif.register_heif_opener()
    # Pillow warns of half of what it opens, and refuses PNG files for the notes that programs leave in them.
    warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
    PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY
    # Pillow's own decoder makes stripes of planes of 16 bits, libtiff does not.
    TiffImagePlugin.READ_LIBTIFF = bool(features.check("libtiff"))
    given = os.environ.get(MAX_PIXELS)
    if given is not None:
        if not given.isascii() or not given.isdigit() or not 0 < int(given) < 2**31:
            problem = "which is not a number of pixels below 2,147,483,648"
            raise UserError(MAX_PIXELS, "environment", given, problem, "Give a whole number, or unset it")
        Image.MAX_IMAGE_PIXELS = -(-int(given) // 2)
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def _report_parts(image: Image.Image, path: Path, field: str, report: FaultReport) -> None:
    # A phone's MPO is one photograph and its preview.
    if getattr(image, "is_animated", False) and image.format != "MPO":
        report(_PAGES, field, str(path), "which has several pages")
    if image.mode in _DEEP_GREY:
        report(_SIXTEEN_BITS, field, str(path), "which has 16 bits of grey")


@contextmanager
def _opened(path: Path, blamed: tuple[str | PathLike[str], str]) -> Iterator[Image.Image]:
    """Open an image and turn every failure of Pillow, here or while decoding, into a UserError."""
    try:
        if path.exists() and not path.is_file():  # opening a pipe would block forever
            raise UserError(*blamed, str(path), "which is not a file", "Name an image file")
        with Image.open(path, formats=_formats()) as image:
            yield image
    except (UserError, MemoryError):
        raise
    except (FileNotFoundError, NotADirectoryError) as error:
        twin = _twin(path)
        problem = f"but there is no such image{f' (there is {twin})' if twin else ''}"
        hint = "Check the image folder, or remove the image from the file"
        raise UserError(*blamed, str(path), problem, hint) from error
    except Image.DecompressionBombError as error:
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        hint = f"Cut it into tiles, or set the environment variable {MAX_PIXELS} to more"
        raise UserError(*blamed, str(path), f"too large an image: more than {limit} pixels", hint) from error
    except Image.UnidentifiedImageError as error:
        raise UserError(*blamed, str(path), *_unknown_format(path)) from error
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            problem, hint = f"which cannot be read ({error.strerror})", "Check the file and its permissions"
            raise UserError(*blamed, str(path), problem, hint) from error
        # Damaged bytes make Pillow's decoders raise SyntaxError, struct.error, OSError without a number, and more.
        problem = f"a damaged image ({type(error).__name__}: {error})"
        raise UserError(*blamed, str(path), problem, "Get the file again, or remove it from the set") from error


def _unknown_format(path: Path) -> tuple[str, str]:
    """What a file is that cannot be read as an image, and what to do about it."""
    with path.open("rb") as file:
        head = file.read(12)
    if not head:
        return "an empty file", "Replace it with a JPEG, PNG or TIFF image"
    if head[4:8] == b"ftyp" and head[8:12] in (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1"):
        return "a HEIC photograph, which Pillow cannot read alone", "Install pillow-heif, or convert it to JPEG"
    if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        problem = "a TIFF whose channels or depth cannot be read"
        return problem, "Convert it to 8 bits of grey or RGB"
    return "which is not an image that can be read", "Replace it with a JPEG, PNG or TIFF image"


def _twin(path: Path) -> str | None:
    """The name of a file beside `path` that differs in its suffix or in capitals only."""
    stem = path.stem.lower()
    beside = sorted(path.parent.iterdir()) if path.parent.is_dir() else []
    return next((other.name for other in beside if other.stem.lower() == stem and other.is_file()), None)


def _orientation(image: Image.Image) -> int:
    value = image.getexif().get(_ORIENTATION, 1)
    return int(value) if value in range(1, 9) else 1


def _raw_size(image: Image.Image) -> tuple[int, int]:
    """(height, width) as the pixels lie on disk; Pillow already swaps them for turned TIFF images."""
    if isinstance(image, TiffImageFile):
        return int(image.tag_v2[IMAGELENGTH]), int(image.tag_v2[IMAGEWIDTH])
    return image.height, image.width


def _turned_size(image: Image.Image) -> tuple[int, int]:
    height, width = _raw_size(image)
    return (width, height) if _orientation(image) in _UNDO_QUARTER_TURN else (height, width)


def _is_misread(image: Image.Image) -> bool:
    """Whether Pillow would decode stripes: without libtiff it takes planes of 16 bits for planes of 8."""
    if not isinstance(image, TiffImageFile) or image.tag_v2.get(PLANAR_CONFIGURATION) != 2:
        return False
    if image.tile and image.tile[0][0] == "libtiff":
        return False
    bits = image.tag_v2.get(BITSPERSAMPLE, (1,))
    return len(bits) > 1 and max(bits) > 8


def _loaded(image: Image.Image, turn: bool) -> Image.Image:
    """The decoded image, turned upright or as it lies on disk."""
    orientation = _orientation(image)
    image.load()
    if turn:
        return ImageOps.exif_transpose(image)
    # Pillow turns TIFF images while it loads them, and then drops the tag.
    turned_by_pillow = _orientation(image) != orientation
    return image.transpose(_UNDO_QUARTER_TURN[orientation]) if turned_by_pillow else image


def _should_turn(
    image: Image.Image,
    height: int | None,
    width: int | None,
    path: Path,
    blamed: tuple[str | PathLike[str], str],
) -> bool:
    raw, turned = _raw_size(image), _turned_size(image)
    if height is None or width is None or (height, width) == turned:
        return True
    if (height, width) == raw:
        return False
    problem = f"which is {raw[1]} wide and {raw[0]} high, but the annotation says {width} wide and {height} high"
    raise UserError(*blamed, str(path), problem, "Give the original image, or correct height and width")


def _to_rgb(image: Image.Image, path: Path, blamed: tuple[str | PathLike[str], str]) -> NDArray[np.uint8]:
    if image.mode in _DEEP_GREY:
        grey = np.asarray(image).astype(np.int64)
        if grey.size and (grey.min() < 0 or grey.max() > 65535):
            raise UserError(*blamed, str(path), "whose pixels need more than 16 bits", "Convert it to 8 bits")
        used = int(grey.max(initial=0)).bit_length()
        return np.repeat((grey >> max(used + used % 2 - 8, 0)).astype(np.uint8)[:, :, None], 3, axis=2)
    if image.mode == "F":
        raise UserError(*blamed, str(path), "whose pixels are floats", "Convert it to 8 bits")
    return np.array(image.convert("RGB"))
