"""Reading photographs of every common kind as 8-bit RGB, turned the way their annotations were made.

More than 8 bits a channel are scaled by the rule of `data.pixel_depth`. Formats that say how many bits they hold (JPEG
2000 in colour, PPM in colour, HEIF, AVIF) are brought to 8 by their decoders.
"""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, PngImagePlugin, TiffImagePlugin, features
from PIL.TiffImagePlugin import BITSPERSAMPLE, IMAGELENGTH, IMAGEWIDTH, PLANAR_CONFIGURATION, TiffImageFile

from sapnet_pipe.data.deep_tiff import DeepTiff, UnreadableDepthError, deep_png, deep_tiff
from sapnet_pipe.data.errors import FaultReport, UserError, mended
from sapnet_pipe.data.pixel_depth import AUTO, Depth
from sapnet_pipe.data.pixel_scaling import to_8_bits

MAX_PIXELS = "SAPNET_MAX_PIXELS"
"""Environment variable: pixels of the largest photograph that is read, in place of Pillow's limit of 178,956,970."""

# Pillow would open far more, of which some runs other programs (EPS), and no camera or microscope writes the rest.
_FORMATS = ("AVIF", "BMP", "DIB", "GIF", "HEIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TIFF", "WEBP")
_PAGES = mended("photographs-of-many-pages", "photographs have more than one page or frame", "The first is read")
_ORIENTATION = 0x0112
_UNDO_QUARTER_TURN = {
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
_DEEP_GREY = ("I", "I;16", "I;16L", "I;16B", "I;16N", "F")

Photograph = Image.Image | DeepTiff


def read_image(
    path: Path,
    height: int | None,
    width: int | None,
    *,
    depth: Depth = AUTO,
    file: str | PathLike[str] | None = None,
    field: str = "file_name",
) -> NDArray[np.uint8]:
    """Decode an image to RGB.

    EXIF orientation: the annotation decides. If its size is that of the turned image (as viewers show it), the image
    is turned; if only the raw size fits, it is left as it lies on disk. Where both fit (half turns, mirrored and square
    images), and without a size, it is turned. Grey, palette and CMYK become RGB; of several pages the first is read;
    transparency is dropped without blending.

    Args:
        height, width: Size that the annotation file gives in pixels, or None to take the image as viewers show it.
        depth: How more than 8 bits a channel become 8: that of the set which the image belongs to.
        file, field: The annotation file and its field to blame; the image itself if there is none.
    Returns: (H, W, 3) uint8 RGB.
    Raises: UserError if the image is missing, not an image, truncated, too large, or of another size.
    """
    blamed = (path if file is None else file, field)
    with _opened(path, blamed) as image:
        turn = _should_turn(image, height, width, path, blamed)
        orientation = _orientation(image)  # which loading drops
        pixels = _deep_pixels(image, path)
        if pixels is not None:
            scaled = _oriented(to_8_bits(pixels, depth), orientation if turn else 1)
            scaled = 255 - scaled if isinstance(image, DeepTiff) and image.is_white_zero else scaled
            return np.repeat(scaled[:, :, None], 3, axis=2) if scaled.ndim == 2 else np.ascontiguousarray(scaled)
        if isinstance(image, DeepTiff) or _is_misread(image):
            problem = "a TIFF of 16 bits that keeps each colour apart (planar)"
            raise UserError(*blamed, str(path), problem, "Convert it to 8 bits, or to interleaved colours")
        return np.array(_loaded(image, turn).convert("RGB"))


def deep_pixels(path: Path) -> NDArray[Any] | None:
    """The numbers of an image of more than 8 bits a channel, of any type, (H, W) or (H, W, 3), not turned; else None.

    Raises: UserError as `read_image`.
    """
    with _opened(path, (path, "file_name")) as image:
        return _deep_pixels(image, path)


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


def _report_parts(image: Photograph, path: Path, field: str, report: FaultReport) -> None:
    # A phone's MPO is one photograph and its preview.
    has_pages = image.has_pages if isinstance(image, DeepTiff) else getattr(image, "is_animated", False)
    if has_pages and (isinstance(image, DeepTiff) or image.format != "MPO"):
        report(_PAGES, field, str(path), "which has several pages")


def _deep_pixels(image: Photograph, path: Path) -> NDArray[Any] | None:
    """The numbers as they lie on disk; None of 8 bits and fewer."""
    if isinstance(image, DeepTiff):
        return image.pixels()
    if image.mode in _DEEP_GREY:
        pixels = np.asarray(image)
        return pixels if image.mode == "F" else pixels.astype(np.uint16)  # TIFF alone holds more bits
    return deep_png(path) if image.format == "PNG" else None


@contextmanager
def _opened(path: Path, blamed: tuple[str | PathLike[str], str]) -> Iterator[Photograph]:
    """Open an image and turn every failure, here or while decoding, into a UserError."""
    try:
        if path.exists() and not path.is_file():  # opening a pipe would block forever
            raise UserError(*blamed, str(path), "which is not a file", "Name an image file")
        with _opened_by_pillow(path) as image:
            deep = deep_tiff(path) if image is None or isinstance(image, TiffImageFile) else None
            if deep is not None:
                _check_bomb(deep)
            found = deep or image
            if found is None:
                raise Image.UnidentifiedImageError
            yield found
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
    except UnreadableDepthError as error:
        problem = f"a TIFF whose channels or depth cannot be read ({error})"
        raise UserError(*blamed, str(path), problem, "Convert it to 8 or 16 bits of grey or RGB") from error
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            problem, hint = f"which cannot be read ({error.strerror})", "Check the file and its permissions"
            raise UserError(*blamed, str(path), problem, hint) from error
        # Damaged bytes make Pillow's decoders raise SyntaxError, struct.error, OSError without a number, and more.
        problem = f"a damaged image ({type(error).__name__}: {error})"
        raise UserError(*blamed, str(path), problem, "Get the file again, or remove it from the set") from error


@contextmanager
def _opened_by_pillow(path: Path) -> Iterator[Image.Image | None]:
    """None if Pillow does not know the kind of file."""
    try:
        opened = Image.open(path, formats=_formats())
    except Image.UnidentifiedImageError:
        yield None
        return
    with opened as image:
        yield image


def _check_bomb(image: DeepTiff) -> None:
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and image.height * image.width > 2 * limit:
        raise Image.DecompressionBombError


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
        return problem, "Convert it to 8 or 16 bits of grey or RGB"
    return "which is not an image that can be read", "Replace it with a JPEG, PNG or TIFF image"


def _twin(path: Path) -> str | None:
    """The name of a file beside `path` that differs in its suffix or in capitals only."""
    stem = path.stem.lower()
    beside = sorted(path.parent.iterdir()) if path.parent.is_dir() else []
    return next((other.name for other in beside if other.stem.lower() == stem and other.is_file()), None)


def _orientation(image: Photograph) -> int:
    if isinstance(image, DeepTiff):
        return image.orientation
    value = image.getexif().get(_ORIENTATION, 1)
    return int(value) if value in range(1, 9) else 1


def _raw_size(image: Photograph) -> tuple[int, int]:
    """(height, width) as the pixels lie on disk; Pillow already swaps them for turned TIFF images."""
    if isinstance(image, TiffImageFile):
        return int(image.tag_v2[IMAGELENGTH]), int(image.tag_v2[IMAGEWIDTH])
    return image.height, image.width


def _turned_size(image: Photograph) -> tuple[int, int]:
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


def _oriented(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """(H, W) or (H, W, 3) turned as EXIF says."""
    if orientation in _UNDO_QUARTER_TURN:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels[::-1] if orientation in (3, 4, 7, 8) else pixels


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
    image: Photograph,
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
