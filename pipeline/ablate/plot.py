"""The plot of an ablation: a line per variant with every seed's figure, the mean, and the standard error."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from sapnet_pipe.pipeline.pictures.draw import Picture

_SCALE = 2
_ROW, _TOP, _BOTTOM, _WIDTH, _PLOT = 34 * _SCALE, 64 * _SCALE, 46 * _SCALE, 900 * _SCALE, 520 * _SCALE
_INK, _GREY, _LIGHT, _BLUE, _PALE = (30, 30, 30), (120, 120, 120), (225, 225, 225), (31, 90, 180), (150, 185, 230)
_LINES = (("sam_top1", "SAM top-1"), ("oracle", "oracle"))


class _Axis(NamedTuple):
    """Values to columns of the picture."""

    low: float
    high: float
    left: float

    def column(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return self.left + share * _PLOT


def draw_plot(figures: Mapping[str, Any]) -> Picture:
    """Pale dots are seeds, the dark dot is their mean, its bar the standard error; dashed lines are the baselines.

    Mask AP where segmenters were trained, else mIoU, else the accuracy of the bags' classes.
    """
    rows: Mapping[str, Any] = figures["variants"]
    key, title = next(
        (pair for pair in (("ap", "mask AP"), ("miou", "mIoU")) if any(pair[0] in row for row in rows.values())),
        ("bag_accuracy", "bag accuracy"),
    )
    baselines = [(name, figures["baselines"][rule]) for rule, name in _LINES if rule in figures["baselines"]]
    baselines = baselines if key == "miou" else []
    values = [value for row in rows.values() for value in row.get(key, ())] + [value for _, value in baselines]
    canvas = Image.new("RGB", (_WIDTH, _TOP + len(rows) * _ROW + _BOTTOM), (255, 255, 255))
    draw = ImageDraw.Draw(canvas)
    draw.text((16 * _SCALE, 10 * _SCALE), f"{figures['title']}: {title}", fill=_INK, font=_font(17))
    axis = _Axis(*_range(values), 230.0 * _SCALE)
    bottom = _TOP + len(rows) * _ROW
    _grid(draw, axis, bottom)
    for name, value in baselines:
        _dashed(draw, axis.column(value), bottom, f"{name} {value:.3f}")
    for place, (variant, row) in enumerate(rows.items()):
        _row(draw, axis, _TOP + (place + 0.5) * _ROW, variant, row, key)
    return np.asarray(canvas.resize((_WIDTH // _SCALE, canvas.height // _SCALE), Image.Resampling.LANCZOS))


def _row(draw: ImageDraw.ImageDraw, axis: _Axis, y: float, variant: str, row: Mapping[str, Any], key: str) -> None:
    name = variant if len(variant) <= 28 else f"{variant[:27]}…"
    draw.text((axis.left - 14 * _SCALE, y), name, fill=_INK, font=_font(13), anchor="rm")
    for value in row.get(key, ()):
        _dot(draw, axis.column(value), y, 4, _PALE)
    mean, sem = row.get(f"{key}_mean"), row.get(f"{key}_sem")
    if mean is None:
        return
    if sem is not None:
        ends = axis.column(mean - sem), axis.column(mean + sem)
        draw.line([(ends[0], y), (ends[1], y)], fill=_BLUE, width=2 * _SCALE)
        for x in ends:
            draw.line([(x, y - 6 * _SCALE), (x, y + 6 * _SCALE)], fill=_BLUE, width=2 * _SCALE)
    _dot(draw, axis.column(mean), y, 5, _BLUE)
    text = f"{mean:.4f}" if sem is None else f"{mean:.4f} ± {sem:.4f}"
    draw.text((axis.left + _PLOT + 14 * _SCALE, y), text, fill=_INK, font=_font(13), anchor="lm")


def _grid(draw: ImageDraw.ImageDraw, axis: _Axis, bottom: int) -> None:
    step = _tick(axis.high - axis.low)
    for index in range(int(np.ceil(axis.low / step - 1e-9)), int(np.floor(axis.high / step + 1e-9)) + 1):
        x = axis.column(index * step)
        draw.line([(x, _TOP), (x, bottom)], fill=_LIGHT, width=_SCALE)
        draw.text((x, bottom + 8 * _SCALE), f"{index * step:.3g}", fill=_GREY, font=_font(12), anchor="ma")


def _dashed(draw: ImageDraw.ImageDraw, x: float, bottom: int, text: str) -> None:
    for y in range(_TOP, bottom, 8 * _SCALE):
        draw.line([(x, y), (x, min(y + 4 * _SCALE, bottom))], fill=_GREY, width=_SCALE)
    draw.text((x, _TOP - 6 * _SCALE), text, fill=_GREY, font=_font(12), anchor="mb")


def _dot(draw: ImageDraw.ImageDraw, x: float, y: float, radius: int, colour: tuple[int, int, int]) -> None:
    reach = radius * _SCALE
    draw.ellipse((x - reach, y - reach, x + reach, y + reach), fill=colour)


def _range(values: Sequence[float]) -> tuple[float, float]:
    """Bounds with some air around all values."""
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    air = max(0.08 * (high - low), 0.005)
    return low - air, high + air


def _tick(span: float) -> float:
    """A round step that gives four to nine lines."""
    power = 10.0 ** np.floor(np.log10(span / 4))
    return float(next(power * factor for factor in (10, 5, 2, 1) if span / (power * factor) >= 4))


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size * _SCALE)
