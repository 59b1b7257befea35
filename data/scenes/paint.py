"""Painting anti-aliased, textured, outlined polygons and backgrounds onto a float canvas."""

import cv2
import numpy as np
from numpy.typing import NDArray

from sapnet_pipe.data.scenes.shapes import Polygon, bar, blob, disc, ellipse, polygon, rectangle

Canvas = NDArray[np.float32]
"""(H, W, 3) RGB in 0..255."""
_SUBPIXEL_BITS = 4
TEXTURES = ("plain", "stripes", "bands", "dots", "noise", "gradient")


def hsv_colour(hue: float, saturation: float, value: float) -> NDArray[np.float32]:
    """RGB in 0..255 from HSV in 0..1; hue wraps round, the others are clipped."""
    hue, saturation, value = hue % 1.0, min(max(saturation, 0.0), 1.0), min(max(value, 0.0), 1.0)
    shift = (np.array([5.0, 3.0, 1.0]) + hue * 6) % 6
    ramp = np.clip(np.minimum(shift, 4 - shift), 0, 1)
    return (255 * (value - value * saturation * ramp)).astype(np.float32)


def paint_part(
    canvas: Canvas,
    polygons: tuple[Polygon, ...],
    colour: NDArray[np.float32],
    texture: str,
    rng: np.random.Generator,
    *,
    outline: float = 0.0,
    strength: float = 1.0,
) -> tuple[NDArray[np.bool_], tuple[slice, slice]] | None:
    """Paint the union of `polygons` (pixels of the canvas) in place; `outline` in 0..1 darkens the rim, `strength`
    multiplies the texture's contrast.

    Returns: (mask of the covered pixels inside the window, the window), or None if all lies outside the canvas.
    """
    window = _window(polygons, canvas.shape[0], canvas.shape[1])
    if window is None:
        return None
    rows, columns = window
    origin = np.array([columns.start, rows.start])
    coverage = np.zeros((rows.stop - rows.start, columns.stop - columns.start), np.uint8)
    # fillPoly puts integer coordinates on pixel centres; our frame has the centre at +0.5.
    fixed = [np.round((vertices - origin - 0.5) * (1 << _SUBPIXEL_BITS)).astype(np.int32) for vertices in polygons]
    for vertices in fixed:
        cv2.fillPoly(coverage, [vertices], 255, cv2.LINE_AA, _SUBPIXEL_BITS)
    alpha = coverage.astype(np.float32)[..., None] / 255
    paint = _textured(colour, texture, rng, coverage.shape, strength)
    if outline > 0:
        paint = paint * (1 - outline * _rim(coverage))[..., None]
    region = canvas[rows, columns]
    region += alpha * (np.clip(paint, 0, 255) - region)
    return coverage >= 128, window


def paint_background(size: int, rng: np.random.Generator, *, clutter: tuple[int, int]) -> Canvas:
    """Muted ground with smooth mottling, often a horizon, and clutter that belongs to no object.

    Args:
        clutter: How many shapes, the least and the most.
    """
    canvas: Canvas = np.empty((size, size, 3), np.float32)
    canvas[:] = _muted_colour(rng)
    for cells, strength in ((3, 24), (8, 12), (24, 7), (80, 5)):
        grain = rng.standard_normal((cells, cells, 1)).astype(np.float32)
        mottling = cv2.resize(grain, (size, size), interpolation=cv2.INTER_CUBIC)
        canvas += strength * rng.uniform(0.1, 1) * mottling[..., None]
    if rng.uniform() < 0.5:
        left, right = size * (rng.uniform(0.3, 0.8) + rng.uniform(-0.06, 0.06, 2))
        ground = polygon((-5, left), (size + 5, right), (size + 5, size + 5), (-5, size + 5))
        paint_part(canvas, (ground,), _muted_colour(rng), _any_texture(rng), rng)
    for _ in range(int(rng.integers(clutter[0], clutter[1] + 1))):
        paint_part(canvas, (_clutter(size, rng),), _clutter_colour(rng), _any_texture(rng), rng, outline=0.3)
    return np.clip(canvas, 0, 255, dtype=np.float32)


def _window(polygons: tuple[Polygon, ...], height: int, width: int) -> tuple[slice, slice] | None:
    vertices = np.concatenate(polygons)
    low, high = np.floor(vertices.min(axis=0)).astype(int) - 1, np.ceil(vertices.max(axis=0)).astype(int) + 2
    left, top, right, bottom = max(low[0], 0), max(low[1], 0), min(high[0], width), min(high[1], height)
    return (slice(top, bottom), slice(left, right)) if right > left and bottom > top else None


def _rim(coverage: NDArray[np.uint8]) -> NDArray[np.float32]:
    """1 on the outermost pixel or two of the covered region, falling to 0 inside."""
    padded = cv2.copyMakeBorder(coverage, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    inside = cv2.erode(padded, np.ones((3, 3), np.uint8))[1:-1, 1:-1]
    return (1 - inside / 255).astype(np.float32)


def _textured(
    colour: NDArray[np.float32], texture: str, rng: np.random.Generator, shape: tuple[int, ...], factor: float
) -> NDArray[np.float32]:
    """(h, w, 3) patch of the colour, modulated by the named texture with random phase, angle and strength."""
    height, width = shape[:2]
    strength, angle = factor * rng.uniform(0.05, 0.18), rng.uniform(0, np.pi)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    along = x * np.cos(angle) + y * np.sin(angle)
    period = max(4.0, max(height, width) * rng.uniform(0.12, 0.3))
    if texture == "stripes":
        pattern = np.sin(along * (2 * np.pi / period))
    elif texture == "bands":
        pattern = np.sign(np.sin(along * (2 * np.pi / period)))
    elif texture == "dots":
        pattern = 2.0 * (np.sin(x * (2 * np.pi / period)) * np.sin(y * (2 * np.pi / period)) > 0.45)
    elif texture == "noise":
        grain = rng.standard_normal((max(2, height // 4), max(2, width // 4))).astype(np.float32)
        pattern = 0.8 * cv2.resize(grain, (width, height), interpolation=cv2.INTER_CUBIC)
    elif texture == "gradient":
        centred = along - along.mean()
        pattern = centred / max(1.0, float(np.abs(centred).max()))
    else:
        pattern = np.zeros((height, width))
    return (colour * (1 + strength * pattern[..., None])).astype(np.float32)


def _muted_colour(rng: np.random.Generator) -> NDArray[np.float32]:
    return hsv_colour(rng.uniform(), rng.uniform(0.03, 0.28), rng.uniform(0.45, 0.85))


def _clutter_colour(rng: np.random.Generator) -> NDArray[np.float32]:
    return hsv_colour(rng.uniform(), rng.uniform(0.05, 0.6), rng.uniform(0.3, 0.9))


def _any_texture(rng: np.random.Generator) -> str:
    return TEXTURES[int(rng.integers(len(TEXTURES)))]


def _clutter(size: int, rng: np.random.Generator) -> Polygon:
    """A stray shape: also the very shapes that objects are made of, so that a part alone proves nothing."""
    x, y, extent = rng.uniform(0, size), rng.uniform(0, size), rng.uniform(6, 26)
    kind = int(rng.integers(6))
    if kind == 0:
        return blob(rng, x, y, extent, extent * rng.uniform(0.4, 1), 0.3)
    if kind == 1:
        return np.array([x, y]) + extent * rng.uniform(-1.2, 1.2, (int(rng.integers(3, 6)), 2))
    if kind == 2:
        direction = rng.uniform(-2.2, 2.2, 2) * extent
        return bar((x - direction[0], y - direction[1]), (x + direction[0], y + direction[1]), rng.uniform(2, 6))
    if kind == 3:
        return disc(x, y, extent * 0.7)
    if kind == 4:
        return rectangle(x - extent, y - extent * 0.6, x + extent, y + extent * 0.6)
    return ellipse(x, y, extent, extent * rng.uniform(0.4, 0.8))
