"""A verdict from clicks for people: the table, the CSV files, and the plot of count against count."""

import csv
import io
from collections import Counter
from collections.abc import Sequence
from colorsys import hsv_to_rgb
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from sapnet_pipe.data.errors import one_line
from sapnet_pipe.data.files import write_bytes
from sapnet_pipe.pipeline.outputs import require_empty_folder
from sapnet_pipe.pipeline.report import Report, table

if TYPE_CHECKING:
    from sapnet_pipe.data.evaluation.click_verdict import ClickVerdict
    from sapnet_pipe.data.points.point_set import PointSet

_COUNTS = ("clicks", "predictions", "found", "missed", "merged", "doubled", "on_other_class", "without_click")
_SHARES = ("precision", "recall", "f1")
_SIDE, _MARGIN = 480, 60
_NAMED = 24  # classes that have room in the legend


def verdict_report(title: str, verdict: "ClickVerdict", notes: Sequence[str], out: Path | None) -> Report:
    """The verdict at its best threshold, class by class."""
    names = {category.category_id: category.name for category in verdict.categories}
    best = verdict.by_threshold[verdict.best]
    by_class = {
        names[key]: row | verdict.count_errors(key)
        for key, row in best.items()
        if key is not None and (row["clicks"] or row["predictions"])
    }
    overall = best[None] | verdict.count_errors()
    result: dict[str, Any] = {
        "threshold": verdict.best,
        "exhaustive": verdict.exhaustive,
        **overall,
        "by_class": by_class,
        "confusion": [
            {"click": names[click], "prediction": names[mask], "number": number}
            for (click, mask), number in sorted(verdict.confusion.items())
        ],
        "by_threshold": {str(threshold): rows[None] for threshold, rows in verdict.by_threshold.items()},
    }
    if not verdict.exhaustive:
        notes = [*notes, "predictions without a click do not count as wrong; --exhaustive if every object has a click."]
    if out is not None:
        result["written"] = str(out)
    heading = ("class", "clicks", "found", "missed", "merged", "doubled", "precision", "recall", "F1", "count bias")
    rows = [_row(name, row) for name, row in by_class.items()]
    shown = {key: value for key, value in result.items() if key not in ("by_class", "confusion", "by_threshold")}
    following = f"sapnet-pipe count --predictions PREDICTIONS --threshold {verdict.best}"
    return Report(title, result, following, notes, shown, table(heading, rows))


def write_verdict(out: Path, verdict: "ClickVerdict", points: "PointSet") -> None:
    """Write ``thresholds.csv``, ``counts.csv``, ``confusion.csv`` and ``counts.png`` to a new folder."""
    require_empty_folder(out)
    names = {category.category_id: category.name for category in verdict.categories}
    thresholds = [
        (threshold, "all" if key is None else names[key], *(row[name] for name in (*_COUNTS, *_SHARES)))
        for threshold, rows in verdict.by_threshold.items()
        for key, row in rows.items()
    ]
    write_table(out / "thresholds.csv", ("threshold", "class", *_COUNTS, *_SHARES), thresholds)
    counts = [(points.images[image].file_name, names[key], *numbers) for image, key, *numbers in verdict.counts]
    write_table(out / "counts.csv", ("image", "class", "clicks", "predictions"), counts)
    confusion = [(names[click], names[mask], number) for (click, mask), number in sorted(verdict.confusion.items())]
    write_table(out / "confusion.csv", ("class of the click", "class of the prediction", "number"), confusion)
    picture = io.BytesIO()
    _plot(verdict, names).save(picture, "PNG")
    write_bytes(out / "counts.png", picture.getvalue())


def write_table(path: Path, heading: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Write a CSV file."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(heading)
    writer.writerows(rows)
    write_bytes(path, text.getvalue().encode())


def _row(name: str, row: dict[str, Any]) -> tuple[str, ...]:
    counts = (str(row[key]) for key in ("clicks", "found", "missed", "merged", "doubled"))
    return one_line(name), *counts, *(f"{row[key]:.3f}" for key in _SHARES), f"{row['bias']:+.2f}"


def _plot(verdict: "ClickVerdict", names: dict[int, str]) -> Image.Image:
    """Predicted count over clicked count by class; a dot is as large as its photographs are many, equal on the line."""
    size = _SIDE + 2 * _MARGIN
    canvas = Image.new("RGB", (size + 180, size), (255, 255, 255))
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(13)
    most = max((max(row[2:]) for row in verdict.counts), default=1) or 1
    low, high = _MARGIN, _MARGIN + _SIDE

    def place(clicks: float, predictions: float) -> tuple[float, float]:
        return low + clicks / most * _SIDE, high - predictions / most * _SIDE

    draw.rectangle((low, low, high, high), outline=(120, 120, 120))
    draw.line((*place(0, 0), *place(most, most)), fill=(190, 190, 190))
    for value in np.unique(np.linspace(0, most, min(most, 5) + 1).round().astype(int)).tolist():
        draw.text((place(value, 0)[0], high + 8), str(value), fill=(60, 60, 60), font=font, anchor="mt")
        draw.text((low - 8, place(0, value)[1]), str(value), fill=(60, 60, 60), font=font, anchor="rm")
    draw.text((low + _SIDE / 2, high + 32), "clicks", fill=(30, 30, 30), font=font, anchor="mt")
    title = f"predicted count per photograph, score from {verdict.best}"
    draw.text((low, low - 24), title, fill=(30, 30, 30), font=font)
    step = _SIDE / most
    for number, (key, name) in enumerate(names.items()):
        colour = tuple(round(255 * part) for part in hsv_to_rgb(number / len(names), 0.8, 0.7))
        turn = 2 * np.pi * number / len(names)
        beside = min(0.25 * step, 14.0) if len(names) > 1 else 0.0  # classes of equal counts lie in a ring
        photographs = Counter((row[2], row[3]) for row in verdict.counts if row[1] == key and (row[2] or row[3]))
        for counts, times in photographs.items():
            x, y = place(*counts)
            x, y = x + beside * np.cos(turn), y + beside * np.sin(turn)
            radius = 2 + np.sqrt(times)
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
        if number < _NAMED:
            draw.text((high + 30, low + 20 * number), one_line(name)[:24], fill=colour, font=font)
    return canvas
