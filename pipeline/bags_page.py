"""What `bags inspect` found as a page of text: contents, sizes of bags, what was left out, scores and quality."""

import math
from collections.abc import Mapping
from typing import Any

from sapnet_pipe.data.errors import one_line
from sapnet_pipe.pipeline.report import table

_CATEGORIES_SHOWN = 10
_QUANTILES = {"0": "least", "0.05": "5 %", "0.25": "25 %", "0.5": "median", "0.75": "75 %", "0.95": "95 %", "1": "most"}
_FIGURES = {"score": ("SAM's score", ".3f"), "stability": ("stability", ".3f"), "area": ("area in pixels", ".0f")}


def bags_page(result: Mapping[str, Any]) -> str:
    """The tables of a store.

    Args:
        result: A `BagsReport` as plain values.
    """
    parts = [
        _contents(result),
        _counts("masks of a point", "points", result["bag_sizes"]),
        _counts("prompted by", "masks", result["prompts"]),
        _counts("left out", "number", {name: count for name, count in result["dropped"].items() if count}),
        _figures(result),
        _counts("category", "points", _frequent(result["categories"])),
        "" if result["quality"] is None else _quality(result),
    ]
    return "\n\n".join(part for part in parts if part)


def _contents(result: Mapping[str, Any]) -> str:
    failed = result["failed_images"]
    features = "with" if result["features"] else "without"
    rows = {
        "photographs": f"{result['images']}" + (f", and {failed} that could not be read" if failed else ""),
        "points": str(result["points"]),
        "masks": f"{result['masks']}, {result['masks'] / result['points']:.1f} of a point",
        "of them": ", ".join(f"{share:.0%} {name}" for name, share in result["area_share"].items()),
        "made by": f"SAM {result['sam_model']}, recipe {result['recipe']}, {result['precision']}, {features} features",
        "shards": f"{result['shards']} of {result['shards_total']}",
        "size": f"{result['bytes']} bytes, {result['bytes_per_mask']:.0f} of a mask",
        "fingerprint": result["fingerprint"],
    }
    return "\n".join(f"{name:<12} {one_line(text)}" for name, text in rows.items())


def _counts(title: str, unit: str, counts: Mapping[str, int]) -> str:
    total = sum(counts.values())
    rows = [(one_line(name.replace("_", " ")), str(count), f"{count / total:.1%}") for name, count in counts.items()]
    return table((title, unit, "share"), rows) if total else ""


def _figures(result: Mapping[str, Any]) -> str:
    rows = [
        (title, *("-" if math.isnan(value) else f"{value:{form}}" for value in result[key].values()))
        for key, (title, form) in _FIGURES.items()
    ]
    return table(("of the masks", *(_QUANTILES[level] for level in result["score"])), rows)


def _frequent(categories: Mapping[str, int]) -> dict[str, int]:
    """The most frequent of many categories, and the others together."""
    ranked = sorted(categories.items(), key=lambda item: (-item[1], item[0]))
    most, others = dict(ranked[:_CATEGORIES_SHOWN]), ranked[_CATEGORIES_SHOWN:]
    return most | ({f"{len(others)} others": sum(count for _, count in others)} if others else {})


def _quality(result: Mapping[str, Any]) -> str:
    rows = [
        (name.replace("_", " "), f"{found['miou']:.3f}", f"{found['share_50']:.1%}", f"{found['share_75']:.1%}")
        for name, found in result["quality"].items()
    ]
    matched = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in result["matched"].items())
    return f"{table(('choice, against the truth', 'mIoU', 'IoU >= 0.5', 'IoU >= 0.75'), rows)}\n\nobjects: {matched}"
