"""Photographs of more than 8 bits a channel, written by Pillow, OpenCV and by hand, and read as one set."""

import io
import struct
import zlib
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from sapnet_pipe.data.depth_of_set import depth_of_set
from sapnet_pipe.data.errors import FaultReport, UserError
from sapnet_pipe.data.images import deep_pixels, image_size, read_image
from sapnet_pipe.data.pixel_depth import AUTO, Depth

Pixels = NDArray[Any]
RGB = np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)
RGB[0, 0] = 255
GREY = RGB[:, :, 0]
FORMATS = {"u": 1, "i": 2, "f": 3}


def tiff(
    pixels: Pixels, *, planar: bool = False, byte_order: Literal["<", ">"] = "<", tags: dict[int, int] | None = None
) -> bytes:
    """An uncompressed TIFF of one strip, or of one for each plane."""
    samples = 1 if pixels.ndim == 2 else pixels.shape[2]
    planes = list(np.moveaxis(pixels, 2, 0)) if planar else [pixels]
    strips = [plane.astype(plane.dtype.newbyteorder(byte_order)).tobytes() for plane in planes]
    starts = [8 + sum(map(len, strips[:place])) for place in range(len(strips))]
    bits, form = 8 * pixels.itemsize, FORMATS[pixels.dtype.kind]
    values: dict[int, tuple[int, ...]] = {
        256: (pixels.shape[1],), 257: (pixels.shape[0],), 258: (bits,) * samples, 259: (1,),
        262: (1 if samples == 1 else 2,), 273: tuple(starts), 277: (samples,), 278: (pixels.shape[0],),
        279: tuple(map(len, strips)), 284: (2 if planar else 1,), 339: (form,) * samples,
    }  # fmt: skip
    values |= {tag: (value,) for tag, value in (tags or {}).items()}
    start = 8 + sum(map(len, strips))
    entries, extra = b"", b""
    for tag, numbers in sorted(values.items()):
        packed = struct.pack(f"{byte_order}{len(numbers)}I", *numbers)
        where = (
            packed if len(numbers) == 1 else struct.pack(f"{byte_order}I", start + 6 + 12 * len(values) + len(extra))
        )
        extra += packed if len(numbers) > 1 else b""
        entries += struct.pack(f"{byte_order}HHI", tag, 4, len(numbers)) + where
    head = (b"II" if byte_order == "<" else b"MM") + struct.pack(f"{byte_order}HI", 42, start)
    return head + b"".join(strips) + struct.pack(f"{byte_order}H", len(values)) + entries + b"\0" * 4 + extra


def by_pillow(pixels: Pixels, form: str, **keys: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, form, **keys)
    return buffer.getvalue()


def by_opencv(pixels: Pixels, suffix: str) -> bytes:
    found, content = cv2.imencode(suffix, pixels if pixels.ndim == 2 else pixels[:, :, ::-1])
    assert found
    return bytes(content)


def png_with_alpha(grey: Pixels) -> bytes:
    """16 bits of grey and 16 of alpha, which neither Pillow nor OpenCV writes."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    rows = np.dstack([grey, grey // 2]).astype(">u2")
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", grey.shape[1], grey.shape[0], 16, 4, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows)))
    return b"\x89PNG\r\n\x1a\n" + head + data + chunk(b"IEND", b"")


G16, C16 = GREY.astype(np.uint16) * 257, RGB.astype(np.uint16) * 257
G12, C12 = GREY.astype(np.uint16) << 4, RGB.astype(np.uint16) << 4
UNIT, UNITS = GREY.astype(np.float32) / 255, RGB.astype(np.float32) / 255
KINDS = {
    "grey16-pillow.png": (by_pillow(G16, "PNG"), GREY),
    "grey16-pillow.tif": (by_pillow(G16, "TIFF"), GREY),
    "grey16-lzw.tif": (by_pillow(G16, "TIFF", compression="tiff_lzw"), GREY),
    "grey16-opencv.png": (by_opencv(G16, ".png"), GREY),
    "grey16-opencv.tif": (by_opencv(G16, ".tif"), GREY),
    "grey16-big-endian.tif": (tiff(G16, byte_order=">"), GREY),
    "grey16-white-is-zero.tif": (tiff(65535 - G16, tags={262: 0}), GREY),
    "grey16-alpha.png": (png_with_alpha(G16), GREY),
    "grey12.png": (by_pillow(G12, "PNG"), GREY),
    "grey12.tif": (tiff(G12), GREY),
    "rgb16-opencv.png": (by_opencv(C16, ".png"), RGB),
    "rgb16-opencv.tif": (by_opencv(C16, ".tif"), RGB),
    "rgb16.tif": (tiff(C16), RGB),
    "rgb16-big-endian.tif": (tiff(C16, byte_order=">"), RGB),
    "rgb16-planar.tif": (tiff(C16, planar=True), RGB),
    "rgb12.png": (by_opencv(C12, ".png"), RGB),
    "rgb12.tif": (tiff(C12), RGB),
    "rgb12-planar.tif": (tiff(C12, planar=True), RGB),
    "rgba16.tif": (tiff(np.dstack([C16, G16 // 2]), tags={338: 2}), RGB),
    "rgb-and-near-infrared16-planar.tif": (tiff(np.dstack([C16, G16 // 3]), planar=True, tags={338: 0}), RGB),
    "unsigned32.tif": (tiff(GREY.astype(np.uint32) * 16843009), GREY),
    "unsigned32-rgb.tif": (tiff(RGB.astype(np.uint32) * 16843009), RGB),
    "signed16.tif": (tiff(GREY.astype(np.int16) << 2), GREY),
    "signed32-pillow.tif": (by_pillow(GREY.astype(np.int32) << 8, "TIFF"), GREY),
    "float32-pillow.tif": (by_pillow(UNIT, "TIFF"), GREY),
    "float32.tif": (tiff(UNIT), GREY),
    "float32-rgb.tif": (tiff(UNITS), RGB),
    "float32-rgb-planar.tif": (tiff(UNITS, planar=True), RGB),
    "float32-rgb-opencv.tif": (by_opencv(UNITS, ".tif"), RGB),
    "float64.tif": (tiff(UNIT.astype(np.float64)), GREY),
    "float64-rgb-planar.tif": (tiff(UNITS.astype(np.float64), planar=True), RGB),
}


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_has_the_pixels_of_its_8_bit_twin(tmp_path: Path, name: str) -> None:
    content, expected = KINDS[name]
    (tmp_path / name).write_bytes(content)
    assert image_size(tmp_path / name) == (6, 9)
    pixels = read_image(tmp_path / name, 6, 9)
    assert (pixels.dtype, pixels.shape) == (np.uint8, (6, 9, 3))
    np.testing.assert_array_equal(pixels, expected if expected.ndim == 3 else expected[:, :, None].repeat(3, 2))
    assert pixels.flags.c_contiguous


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
def test_8_bits_are_never_scaled(tmp_path: Path, mode: str) -> None:
    image = Image.fromarray(RGB).convert(mode)
    image.save(tmp_path / "a.tif")
    assert deep_pixels(tmp_path / "a.tif") is None
    report = FaultReport("f.json")
    assert depth_of_set([tmp_path / "a.tif"], Depth.parse("0:9"), report) == AUTO
    assert report.notes() == ()
    for text in ("auto", "full", "percentile", "0:9", "auto:16bit"):
        pixels = read_image(tmp_path / "a.tif", None, None, depth=Depth.parse(text))
        np.testing.assert_array_equal(pixels, np.array(image.convert("RGB")))


@pytest.mark.parametrize("pixels", [G16, C16, UNIT, UNITS.astype(np.float64)], ids=["grey", "rgb", "float", "float64"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_deep_photographs_are_turned_as_viewers_show_them(tmp_path: Path, pixels: Pixels, orientation: int) -> None:
    twin = RGB if pixels.ndim == 3 else GREY[:, :, None].repeat(3, 2)
    turned = [twin, twin[:, ::-1], twin[::-1, ::-1], twin[::-1], twin.swapaxes(0, 1)]
    turned += [np.rot90(twin, -1), twin[::-1, ::-1].swapaxes(0, 1), np.rot90(twin)]
    path, expected = tmp_path / "turned.tif", turned[orientation - 1]
    path.write_bytes(tiff(pixels, tags={274: orientation}))
    assert image_size(path) == expected.shape[:2]
    np.testing.assert_array_equal(read_image(path, *expected.shape[:2]), expected)
    if orientation >= 5:
        np.testing.assert_array_equal(read_image(path, 6, 9), twin)


def test_a_png_of_16_bits_in_colour_is_turned_by_exif(tmp_path: Path) -> None:
    plain = by_opencv(C16, ".png")
    exif = struct.pack("<2sHIHHHIHHI", b"II", 42, 8, 1, 0x0112, 3, 1, 6, 0, 0)
    chunk = struct.pack(">I", len(exif)) + b"eXIf" + exif + struct.pack(">I", zlib.crc32(b"eXIf" + exif))
    (tmp_path / "a.png").write_bytes(plain[:33] + chunk + plain[33:])
    np.testing.assert_array_equal(read_image(tmp_path / "a.png", 9, 6), np.rot90(RGB, -1))


def test_a_set_is_scaled_by_its_brightest_photograph_and_says_so(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("bright.tif", "dark.tif", "plain.png")]
    paths[0].write_bytes(tiff(G12))
    paths[1].write_bytes(tiff(G12 // 10))
    paths[2].write_bytes(by_pillow(GREY, "PNG"))
    report = FaultReport("f.json")
    depth = depth_of_set(paths, AUTO, report)
    assert str(depth) == "auto:12bit"
    assert report.notes() == (
        f"f.json: 2 photographs have more than 8 bits a channel (first file_name = {paths[0]}). They are scaled by "
        "--depth auto:12bit: of the 12 bits in use the highest 8 are kept.",
    )
    np.testing.assert_array_equal(read_image(paths[1], 6, 9, depth=depth)[:, :, 0], (G12 // 10) >> 4)
    np.testing.assert_array_equal(read_image(paths[2], 6, 9, depth=depth)[:, :, 0], GREY)


def test_what_is_missing_and_cut_is_counted(tmp_path: Path) -> None:
    holed = UNIT.copy()
    holed[2:4, 1:3] = [[np.nan, np.inf], [-np.inf, np.nan]]
    (tmp_path / "holed.tif").write_bytes(tiff(holed))
    (tmp_path / "whole.tif").write_bytes(tiff(UNIT * 3))
    report = FaultReport("f.json")
    depth = depth_of_set([tmp_path / "holed.tif", tmp_path / "whole.tif"], Depth.parse("0:1"), report)
    deep, missing, cut = report.notes()
    assert "2 photographs have more than 8 bits" in deep
    assert "--depth 0:1: 0 becomes 0 and 1 becomes 255" in deep
    assert "1 photographs have pixels that are no number (NaN, infinite)" in missing
    assert "1 photographs have over a hundredth of their pixels beyond the depth" in cut
    assert "whole.tif" in cut
    expected = np.where(np.isfinite(holed), GREY, 0)
    np.testing.assert_array_equal(read_image(tmp_path / "holed.tif", 6, 9, depth=depth)[:, :, 1], expected)


def test_a_store_of_before_leaves_auto_to_each_photograph(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(tiff(G12))
    report = FaultReport("f.json")
    assert depth_of_set([tmp_path / "a.tif"], AUTO, report, decide_auto=False) == AUTO
    assert "each by the bits that it uses" in report.notes()[0]


def test_photographs_that_cannot_be_read_decide_nothing(tmp_path: Path) -> None:
    (tmp_path / "damaged.tif").write_bytes(tiff(G16)[:60])
    (tmp_path / "a.tif").write_bytes(tiff(G12))
    report = FaultReport("f.json")
    paths = [tmp_path / name for name in ("damaged.tif", "missing.tif", "a.tif")]
    assert str(depth_of_set(paths, AUTO, report)) == "auto:12bit"


def test_the_first_of_several_deep_pages_is_read_and_noted(tmp_path: Path) -> None:
    first, second = Image.fromarray(G16), Image.fromarray(65535 - G16)
    first.save(tmp_path / "stack.tif", save_all=True, append_images=[second])
    report = FaultReport("f.json")
    assert image_size(tmp_path / "stack.tif", report=report) == (6, 9)
    assert "1 photographs have more than one page or frame" in report.notes()[0]
    np.testing.assert_array_equal(read_image(tmp_path / "stack.tif", 6, 9)[:, :, 0], GREY)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        pytest.param(tiff(np.dstack([G16, G16])), "2 channels that are not RGB", id="grey with another channel"),
        pytest.param(tiff(np.dstack([C16, G16, G16]), tags={262: 1}), "5 channels that are not RGB", id="five"),
        pytest.param(tiff(UNIT.astype(np.float16)), "floats of 16 bits", id="half floats"),
        pytest.param(tiff(C16)[:-40], "damaged|cannot be read", id="cut off in the directory"),
        pytest.param(tiff(C16, tags={256: 900}), "damaged|cannot be read", id="wider than its strip"),
    ],
)
def test_what_cannot_be_read_is_named_as_what_it_is(tmp_path: Path, content: bytes, problem: str) -> None:
    (tmp_path / "a.tif").write_bytes(content)
    with pytest.raises(UserError, match=problem):
        read_image(tmp_path / "a.tif", None, None)


def test_a_deep_photograph_over_the_limit_names_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.tif").write_bytes(tiff(UNITS))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)
    with pytest.raises(UserError, match=r"more than 40 pixels.*SAPNET_MAX_PIXELS"):
        image_size(tmp_path / "a.tif")


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", ["rgb16.tif", "rgb12-planar.tif", "float32-rgb.tif", "rgb16-opencv.png"])
def test_damage_to_deep_files_never_ends_in_a_traceback(tmp_path: Path, name: str) -> None:
    rng, whole = np.random.default_rng(0), np.frombuffer(KINDS[name][0], np.uint8)
    path = tmp_path / "damaged"
    for _ in range(60):
        damaged = whole[: rng.integers(1, len(whole) + 1)].copy()
        places = rng.integers(0, len(damaged), 8)
        damaged[places] = rng.integers(0, 256, 8)
        path.write_bytes(damaged.tobytes())
        try:
            pixels = read_image(path, 6, 9)
        except UserError:
            continue
        assert pixels.shape == (6, 9, 3)
