"""The table of an ablation, as Markdown, CSV and JSON; equal runs give equal bytes, so there are no seconds in it."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sapnet_pipe.data.files import write_bytes, write_json
from sapnet_pipe.pipeline.ablate.plot import draw_plot
from sapnet_pipe.pipeline.ablate.results import gather
from sapnet_pipe.pipeline.pictures.draw import write_picture

_FIGURES = (
    ("miou", "mIoU"),
    ("miou_in_group", "in groups"),
    ("miou_alone", "alone"),
    ("share_50", "IoU >= 0.5"),
    ("share_75", "IoU >= 0.75"),
    ("ap", "mask AP"),
    ("box_ap", "box AP"),
)
_STRATA = (("in_group", "in groups"), ("alone", "alone"), ("small", "small"), ("crowded", "crowded"))
_MEASURED = ("miou_in_group", "miou_alone", "share_50")  # shown with errors over photographs, or in the files alone
_WITHOUT_TRUTH = (("bag_accuracy", "bag accuracy"),)
_BASELINES = {"sam_top1": "SAM top-1", "largest": "always the largest", "oracle": "oracle (best in bag)"}


def write_tables(out: Path, name: str) -> tuple[dict[str, Any], list[Path]]:
    """Write ``NAME.md``, ``NAME.csv``, ``NAME.json`` and ``NAME.png`` of the finished runs.

    Returns: the figures as in the JSON file, and the files.
    """
    figures = gather(out, name)
    files = [out / f"{name}.{kind}" for kind in ("md", "csv", "json", "png")]
    write_bytes(files[0], markdown(figures).encode())
    write_bytes(files[1], as_csv(figures).encode())
    write_json(files[2], figures, indent=2)
    write_picture(files[3], draw_plot(figures))
    return figures, files


def markdown(figures: Mapping[str, Any]) -> str:
    """The table for people, with its errors, and of several sets a second one by set."""
    rows: Mapping[str, Any] = figures["variants"]
    evident = any("evidence" in row for row in rows.values())
    columns = [column for column in shown_columns(rows) if not (evident and column[0] in _MEASURED)]
    strata = [column for column in _STRATA if any(column[0] in row.get("evidence", ()) for row in rows.values())]
    against = "row above" if figures["compare"] == "previous" else "first row"
    tested = ["p", *(["sets"] if figures["sets"] else [])] if evident else []
    titles = [title for _, title in (*columns[:1], *strata, *columns[1:])]
    header = ["variant", *titles, f"step to the {against}", *tested, "seeds"]
    lines = []
    for name, row in rows.items():
        cells = [_cell(row, key) for key, _ in columns]
        cells[1:1] = [_with_errors(row.get("evidence", {}).get(key)) for key, _ in strata]
        lines.append([name, *cells, _step(row), *_tests(row, figures)[: len(tested)], _seeds(row)])
    for rule, title in _BASELINES.items():
        if rule in figures["baselines"]:
            found = next((row["evidence"]["rules"].get(rule) for row in rows.values() if "evidence" in row), None)
            value = f"{figures['baselines'][rule]:.4f}" if found is None else _with_errors(found)
            lines.append([f"*{title}*", *(value if title == "mIoU" else "" for title in header[1:])])
    parts = [f"## {figures['title']}", "", *_aligned(header, lines), "", *_legend(figures, evident=evident)]
    if figures["sets"] and evident:
        parts += ["", "### By set", "", *_aligned(*_by_set(figures))]
    return "\n".join(parts) + "\n"


def _by_set(figures: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Header and lines of the mean IoU of every row, and of the choices without training, on every set."""
    shown = {name: row["evidence"] for name, row in figures["variants"].items() if "evidence" in row}
    lines = [[name, *(_of_set(found["miou"], of) for of in figures["sets"])] for name, found in shown.items()]
    rules: Mapping[str, Any] = next(iter(shown.values()))["rules"]
    for rule, title in _BASELINES.items():
        if rule in rules:
            lines.append([f"*{title}*", *(_of_set(rules[rule], of) for of in figures["sets"])])
    return ["variant", *figures["sets"]], lines


def _of_set(found: Mapping[str, Any], name: str) -> str:
    return _with_errors(found["sets"][name] if "sets" in found else found)


def as_csv(figures: Mapping[str, Any]) -> str:
    """One line per variant with every figure's mean, standard deviation and standard error over the seeds, and the
    errors over photographs and sets."""
    text = io.StringIO()
    names = [f"{key}_{kind}" for key, _ in (*_FIGURES, *_WITHOUT_TRUTH) for kind in ("mean", "sd", "sem")]
    names += ["oracle_mean", "step_mean", "step_sem", "compared_with", "at_chance", "restarts"]
    evident = [("miou_photo_error", "miou", "error"), ("miou_sets_error", "miou", "sets_error")]
    evident += [(f"{key}_{kind}", key, kind) for key, _ in _STRATA for kind in ("count", "mean", "error")]
    steps = [("step_photo_error", "error"), ("step_sets_error", "sets_error"), ("step_p", "p")]
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["variant", "seeds", *names, *(name for name, *_ in (*evident, *steps))])
    for variant, row in figures["variants"].items():
        found, step = row.get("evidence", {}), row.get("step_evidence") or {}
        values = [row.get(name) for name in names]
        values += [found.get(key, {}).get(kind) for _, key, kind in evident] + [step.get(kind) for _, kind in steps]
        writer.writerow([variant, len(row["seeds"]), *("" if value is None else value for value in values)])
    return text.getvalue()


def shown_columns(rows: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Figures that at least one row has; the accuracy of the bags only where there is no truth to measure with."""
    known = [column for column in _FIGURES if any(f"{column[0]}_mean" in row for row in rows.values())]
    return known or list(_WITHOUT_TRUTH)


def _cell(row: Mapping[str, Any], key: str) -> str:
    mean, sem = row.get(f"{key}_mean"), row.get(f"{key}_sem")
    if mean is None:
        return "-"
    return _with_errors(row.get("evidence", {}).get(key) or {"mean": mean}, sem)


def _step(row: Mapping[str, Any]) -> str:
    mean, sem = row.get("step_mean"), row.get("step_sem")
    if mean is None:
        return ""
    found = row.get("step_evidence") if "ap_mean" not in row else None
    return _with_errors(found or {"mean": mean}, sem, sign="+")


def _with_errors(found: Mapping[str, Any] | None, sem: float | None = None, sign: str = "") -> str:
    """``mean ± error over photographs (over seeds) [over sets]``; what is not known is left out."""
    if found is None:
        return "-"
    text = format(found["mean"], f"{sign}.4f")
    text += "" if found.get("error") is None else f" ± {found['error']:.4f}"
    text += "" if sem is None else f" ({sem:.4f})"
    return text if found.get("sets_error") is None else f"{text} [{found['sets_error']:.4f}]"


def _tests(row: Mapping[str, Any], figures: Mapping[str, Any]) -> tuple[str, str]:
    """The paired test of the step, and in how many sets it goes up."""
    found = row.get("step_evidence")
    if found is None:
        return "", ""
    return "-" if found["p"] is None else f"{found['p']:.4f}", f"{found['sets_up']} of {len(figures['sets'])} up"


def _seeds(row: Mapping[str, Any]) -> str:
    failed = row["at_chance"]
    return f"{len(row['seeds'])} ({failed} at chance)" if failed else str(len(row["seeds"]))


def _aligned(header: Sequence[str], lines: Sequence[Sequence[str]]) -> list[str]:
    """A Markdown table that also reads well as plain text."""
    widths = [max(len(line[place]) for line in [header, *lines]) for place in range(len(header))]
    ruler = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    rows = [header, ruler, *lines]
    return [
        "| "
        + " | ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
        + " |"
        for row in rows
    ]


def _legend(figures: Mapping[str, Any], *, evident: bool) -> list[str]:
    lines = ["In brackets the standard error over the seeds; a step is the mean difference between runs of one seed."]
    if evident:
        lines = [
            "± is the standard error over photographs (bootstrap), in round brackets that over the training's seeds"
            + (", in square brackets that over the sets." if figures["sets"] else "."),
            "p is of a paired test of the step (signs flipped by photograph). Small: under 32 x 32 pixels; crowded: "
            "two or more others touch it.",
        ]
    if figures["sets"]:
        lines.append("mIoU is the mean over the sets, each counting alike; the strata are of all objects together.")
    if figures["finished"] < figures["runs"]:
        lines.append(f"{figures['finished']} of {figures['runs']} runs are finished.")
    return lines
