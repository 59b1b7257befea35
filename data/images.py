"""Reading photographs of every common kind as 8-bit RGB, turned the way their annotations were made."""

from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from PIL.TiffImagePlugin import IMAGELENGTH, IMAGEWIDTH, TiffImageFile

from sapnet_pipe.data.errors import UserError

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")  # of what counts as a photograph in a folder

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
    images), and without a size, it is turned. Grey, palette and CMYK become RGB, 16-bit grey loses its low byte,
    transparency is dropped without blending.

    Args:
        height, width: Size that the annotation file gives in pixels, or None to take the image as viewers show it.
        file, field: The annotation file and its field to blame; the image itself if there is none.
    Returns: (H, W, 3) uint8 RGB.
    Raises: UserError if the image is missing, not an image, truncated, too large, or of another size.
    """
    blamed = (path if file is None else file, field)
    with _opened(path, blamed) as image:
        turn = _should_turn(image, height, width, path, blamed)
        return _to_rgb(_loaded(image, turn), path, blamed)


def image_size(path: Path, *, file: str | PathLike[str] | None = None, field: str = "file_name") -> tuple[int, int]:
    """(height, width) in pixels as viewers show the image, EXIF orientation applied, without decoding it.

    Raises: UserError if the file is missing or is not an image.
    """
    with _opened(path, (path if file is None else file, field)) as image:
        return _turned_size(image)


def image_sizes(path: Path) -> tuple[tuple[int, int], tuple[int, int]]:
    """(height, width) as the pixels lie on disk, and as viewers show the image; see `image_size`."""
    with _opened(path, (path, "file_name")) as image:
        return _raw_size(image), _turned_size(image)


@contextmanager
def _opened(path: Path, blamed: tuple[str | PathLike[str], str]) -> Iterator[Image.Image]:
    """Open an image and turn every failure of Pillow, here or while decoding, into a UserError."""
    try:
        if path.exists() and not path.is_file():  # opening a pipe would block forever
            raise UserError(*blamed, str(path), "which is not a file", "Name an image file")
        with Image.open(path) as image:
            yield image
    except (UserError, MemoryError):
        raise
    except (FileNotFoundError, NotADirectoryError) as error:
        twin = _twin(path)
        problem = f"but there is no such image{f' (there is {twin})' if twin else ''}"
        hint = "Check the image folder, or remove the image from the file"
        raise UserError(*blamed, str(path), problem, hint) from error
    except Image.DecompressionBombError as error:
        raise UserError(*blamed, str(path), f"too large an image ({error})", "Cut it into tiles") from error
    except Image.UnidentifiedImageError as error:
        empty = not path.stat().st_size
        problem = "an empty file" if empty else "which is not an image that can be read"
        raise UserError(*blamed, str(path), problem, "Replace it with a JPEG, PNG or TIFF image") from error
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            problem, hint = f"which cannot be read ({error.strerror})", "Check the file and its permissions"
            raise UserError(*blamed, str(path), problem, hint) from error
        # Damaged bytes make Pillow's decoders raise SyntaxError, struct.error, OSError without a number, and more.
        problem = f"a damaged image ({type(error).__name__}: {error})"
        raise UserError(*blamed, str(path), problem, "Get the file again, or remove it from the set") from error


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
        return np.repeat((grey >> 8).astype(np.uint8)[:, :, None], 3, axis=2)
    if image.mode == "F":
        raise UserError(*blamed, str(path), "whose pixels are floats", "Convert it to 8 bits")
    return np.array(image.convert("RGB"))
