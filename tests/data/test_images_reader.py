import contextlib
import io
import os
import re
import struct

import numpy as np
import pytest
from PIL import Image, PngImagePlugin, TiffImagePlugin

from sapnet_pipe.data.errors import FaultReport, UserError
from sapnet_pipe.data.images import image_size, read_image

RGB = np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)
PIL_RGB = Image.fromarray(RGB)


def saved(tmp_path, image: Image.Image, name: str = "a.png", **keys):
    image.save(tmp_path / name, **keys)
    return tmp_path / name


def with_orientation(tmp_path, orientation: int, pixels: np.ndarray = RGB, name: str = "turned.png"):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return saved(tmp_path, Image.fromarray(pixels), name, exif=exif)


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        pytest.param(PIL_RGB, RGB, id="rgb"),
        pytest.param(Image.fromarray(RGB[:, :, 0]), RGB[:, :, :1].repeat(3, 2), id="grey"),
        pytest.param(Image.fromarray(RGB[:, :, 0] > 99), (RGB[:, :, :1].repeat(3, 2) > 99) * 255, id="one bit"),
        pytest.param(Image.fromarray(np.dstack([RGB, RGB[:, :, :1] // 2])), RGB, id="alpha is dropped, not blended"),
        pytest.param(Image.fromarray(RGB[:, :, :2], "LA"), RGB[:, :, :1].repeat(3, 2), id="grey with alpha"),
        pytest.param(
            Image.fromarray(RGB[:, :, 0].astype(np.uint16) * 256 + 255),
            RGB[:, :, :1].repeat(3, 2),
            id="16 bits lose the low byte",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_every_kind_of_pixel_becomes_rgb(tmp_path, image, expected):
    pixels = read_image(saved(tmp_path, image), 6, 9)
    assert (pixels.dtype, pixels.shape) == (np.uint8, (6, 9, 3))
    np.testing.assert_array_equal(pixels, expected)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_deep_grey_is_read_from_png_and_tiff(tmp_path, suffix):
    deep = np.array([[0, 255, 256], [4095, 40000, 65535]], np.uint16)
    pixels = read_image(saved(tmp_path, Image.fromarray(deep), f"deep.{suffix}"), 2, 3)
    np.testing.assert_array_equal(pixels[:, :, 0], [[0, 0, 1], [15, 156, 255]])


def test_palette_images_show_their_colours_also_with_transparency(tmp_path):
    palette = PIL_RGB.quantize(256)
    expected = np.array(palette.convert("RGB"))
    np.testing.assert_array_equal(read_image(saved(tmp_path, palette), 6, 9), expected)
    np.testing.assert_array_equal(read_image(saved(tmp_path, palette, transparency=0), 6, 9), expected)
    gif = saved(tmp_path, palette, "a.gif")
    np.testing.assert_array_equal(read_image(gif, 6, 9), expected)


def test_cmyk_photographs_come_close_to_their_colours(tmp_path):
    plain = np.full((16, 16, 3), (200, 60, 20), np.uint8)
    path = saved(tmp_path, Image.fromarray(plain).convert("CMYK"), "a.jpg", quality=95)
    assert np.abs(read_image(path, 16, 16).astype(int) - plain).max() < 8


@pytest.mark.parametrize("name", ["turned.png", "turned.tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_turned_as_viewers_show_them(tmp_path, orientation, name):
    turns = [None, RGB, RGB[:, ::-1], RGB[::-1, ::-1], RGB[::-1], RGB.transpose(1, 0, 2)]
    turns += [np.rot90(RGB, -1), RGB[::-1, ::-1].transpose(1, 0, 2), np.rot90(RGB)]
    path = with_orientation(tmp_path, orientation, RGB, name)
    expected = turns[orientation]
    assert image_size(path) == expected.shape[:2]
    np.testing.assert_array_equal(read_image(path, *expected.shape[:2]), expected)
    np.testing.assert_array_equal(read_image(path, None, None), expected)


@pytest.mark.parametrize("name", ["turned.png", "turned.tif"])
def test_the_annotation_decides_whether_an_image_is_turned(tmp_path, name):
    for orientation in (5, 7, 8):
        np.testing.assert_array_equal(read_image(with_orientation(tmp_path, orientation, RGB, name), 6, 9), RGB)
    path = with_orientation(tmp_path, 6, RGB, name)
    np.testing.assert_array_equal(read_image(path, 6, 9), RGB)
    np.testing.assert_array_equal(read_image(path, 9, 6), np.rot90(RGB, -1))
    with pytest.raises(UserError, match="but the annotation says 10 wide and 9 high"):
        read_image(path, 9, 10)


def test_a_square_image_is_turned(tmp_path):
    path = with_orientation(tmp_path, 6, RGB[:, :6])
    np.testing.assert_array_equal(read_image(path, 6, 6), np.rot90(RGB[:, :6], -1))


@pytest.mark.parametrize("value", [0, 9, 77])
def test_an_unknown_orientation_turns_nothing(tmp_path, value):
    np.testing.assert_array_equal(read_image(with_orientation(tmp_path, value), 6, 9), RGB)


def test_a_wrong_size_blames_the_annotation_file(tmp_path):
    path = saved(tmp_path, PIL_RGB)
    message = r"points\.json: images\[4\] = .*a\.png, which is 9 wide and 6 high, but the annotation says 6 wide"
    with pytest.raises(UserError, match=message):
        read_image(path, 9, 6, file="points.json", field="images[4]")


def encoded(form: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)).save(buffer, form)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        pytest.param(b"", "an empty file", id="empty"),
        pytest.param(b"<html>not found</html>", "which is not an image", id="a web page"),
        pytest.param(encoded("JPEG")[:1500], "a damaged image", id="truncated jpeg"),
        pytest.param(encoded("PNG")[:1500], "a damaged image", id="truncated png"),
        pytest.param(encoded("TIFF")[:1500], "a damaged image", id="truncated tiff"),
        pytest.param(encoded("PNG")[:40], "image", id="png header alone"),
    ],
)
def test_a_broken_image_is_named(tmp_path, content, problem):
    path = tmp_path / "broken.jpg"
    path.write_bytes(content)
    with pytest.raises(UserError, match=f"points.json: images\\[0\\] = .*broken.jpg, .*{problem}"):
        read_image(path, 60, 90, file="points.json", field="images[0]")


def test_missing_images_and_folders_are_named(tmp_path):
    with pytest.raises(UserError, match="but there is no such image"):
        read_image(tmp_path / "none.jpg", 6, 9)
    with pytest.raises(UserError, match="there is no such image"):
        image_size(tmp_path / "none.jpg")
    with pytest.raises(UserError, match="which is not a file"):
        read_image(tmp_path, 6, 9)
    with pytest.raises(UserError, match="there is no such image"):
        read_image(saved(tmp_path, PIL_RGB) / "below.png", 6, 9)
    with pytest.raises(UserError, match="which cannot be read"):
        read_image(tmp_path / ("long" * 100), 6, 9)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="which is not a file"):
        read_image(tmp_path / "pipe", 6, 9)


def test_a_decompression_bomb_is_refused(tmp_path, monkeypatch):
    path = saved(tmp_path, PIL_RGB)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)
    with pytest.raises(UserError, match=re.escape("too large an image") + r".*Cut it into tiles"):
        read_image(path, 6, 9)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF", "BMP", "GIF", "WEBP"])
def test_random_damage_never_ends_in_a_traceback(tmp_path, form):
    rng = np.random.default_rng(0)
    whole = np.frombuffer(encoded(form), np.uint8)
    path = tmp_path / "damaged"
    for _ in range(60):
        damaged = whole[: rng.integers(1, len(whole) + 1)].copy()
        places = rng.integers(0, len(damaged), 8)
        damaged[places] = rng.integers(0, 256, 8)
        path.write_bytes(damaged.tobytes())
        # Whatever is not a UserError fails the test.
        with contextlib.suppress(UserError):
            assert read_image(path, 60, 90).shape == (60, 90, 3)
            assert image_size(path) == (60, 90)


@pytest.mark.parametrize("name", ["img_1.jpg", "IMG_1.png", "img_1"])
def test_a_name_that_differs_in_capitals_or_suffix_is_recognised(tmp_path, name):
    Image.new("RGB", (8, 6)).save(tmp_path / "IMG_1.JPG", format="JPEG")
    with pytest.raises(UserError, match=r"no such image \(there is IMG_1\.JPG\)"):
        image_size(tmp_path / name)


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_grey_of_fewer_bits_than_sixteen_is_not_read_as_black(tmp_path, bits):
    grey = RGB[:, :, 0].astype(np.uint16)
    grey[0, 0] = 255
    path = saved(tmp_path, Image.fromarray(grey << (bits - 8)))
    np.testing.assert_array_equal(read_image(path, 6, 9)[:, :, 0], grey)


def test_pages_beyond_the_first_are_noted_but_not_a_phones_preview(tmp_path):
    report = FaultReport("f.json")
    image_size(
        saved(tmp_path, PIL_RGB, "phone.jpg", format="MPO", save_all=True, append_images=[PIL_RGB]), report=report
    )
    assert report.notes() == ()
    for name in ("stack.tif", "moving.webp", "moving.gif"):
        other = Image.fromarray(255 - RGB)
        image_size(saved(tmp_path, PIL_RGB, name, save_all=True, append_images=[other]), report=report)
    assert "3 photographs have more than one page or frame" in report.notes()[0]


def test_a_png_with_long_notes_is_read(tmp_path):
    notes = PngImagePlugin.PngInfo()
    notes.add_text("workflow", "x" * 3_000_000, zip=True)
    path = saved(tmp_path, PIL_RGB, pnginfo=notes)
    np.testing.assert_array_equal(read_image(path, 6, 9), RGB)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\nshowpage\n", "not an image that can"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 64, "HEIC|damaged"),
        (b"", "an empty file"),
    ],
)
def test_a_file_of_another_format_is_named_as_what_it_is(tmp_path, content, problem):
    (tmp_path / "1.png").write_bytes(content)
    with pytest.raises(UserError, match=problem):
        read_image(tmp_path / "1.png", None, None)


def test_a_photograph_over_the_limit_names_the_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)
    with pytest.raises(UserError, match=r"more than 40 pixels.*SAPNET_MAX_PIXELS"):
        image_size(saved(tmp_path, PIL_RGB))


def test_planes_of_sixteen_bits_are_read_with_and_without_libtiff(tmp_path, monkeypatch):
    tags = {256: 9, 257: 6, 258: (16, 16, 16), 259: 1, 262: 2, 277: 3, 278: 6, 284: 2}
    planes = (RGB.astype("<u2") * 257).transpose(2, 0, 1).tobytes()
    (tmp_path / "planar.tif").write_bytes(_tiff(tags, planes))
    np.testing.assert_array_equal(read_image(tmp_path / "planar.tif", None, None), RGB)
    monkeypatch.setattr(TiffImagePlugin, "READ_LIBTIFF", False)  # as in a Pillow without libtiff
    np.testing.assert_array_equal(read_image(tmp_path / "planar.tif", None, None), RGB)


def _tiff(tags, data):
    """A little-endian TIFF of three strips; `tags` hold whole numbers."""
    part = len(data) // 3
    tags = tags | {273: tuple(8 + place * part for place in range(3)), 279: (part,) * 3}
    directory, extra = b"", b""
    start = 8 + len(data) + 2 + 12 * len(tags) + 4
    for tag, value in sorted(tags.items()):
        values = value if isinstance(value, tuple) else (value,)
        packed = struct.pack(f"<{len(values)}I", *values)
        where = packed if len(values) == 1 else struct.pack("<I", start + len(extra))
        extra += packed if len(values) > 1 else b""
        directory += struct.pack("<HHI", tag, 4, len(values)) + where
    head = b"II*\0" + struct.pack("<I", 8 + len(data))
    return head + data + struct.pack("<H", len(tags)) + directory + b"\0" * 4 + extra
