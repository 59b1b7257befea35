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
    """The table for people: mean ± standard error, the step to the row it is compared with, and how sure it is."""
    rows: Mapping[str, Any] = figures["variants"]
    columns = shown_columns(rows)
    against = "row above" if figures["compare"] == "previous" else "first row"
    header = ["variant", *(title for _, title in columns), f"step to the {against}", "seeds"]
    lines = [[name, *(_cell(row, key) for key, _ in columns), _step(row), _seeds(row)] for name, row in rows.items()]
    known = [(rule, title) for rule, title in _BASELINES.items() if rule in figures["baselines"]]
    for rule, title in known:
        value = f"{figures['baselines'][rule]:.4f}"
        lines.append([f"*{title}*", *(value if key == "miou" else "" for key, _ in columns), "", ""])
    parts = [f"## {figures['title']}", "", *_aligned(header, lines), "", _legend(figures)]
    return "\n".join(parts) + "\n"


def as_csv(figures: Mapping[str, Any]) -> str:
    """One line per variant with every figure's mean, standard deviation and standard error."""
    text = io.StringIO()
    names = [f"{key}_{kind}" for key, _ in (*_FIGURES, *_WITHOUT_TRUTH) for kind in ("mean", "sd", "sem")]
    names += ["oracle_mean", "step_mean", "step_sem", "compared_with", "at_chance", "restarts"]
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["variant", "seeds", *names])
    for variant, row in figures["variants"].items():
        values = [row.get(name) for name in names]
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
    return f"{mean:.4f}" if sem is None else f"{mean:.4f} ± {sem:.4f}"


def _step(row: Mapping[str, Any]) -> str:
    mean, sem = row.get("step_mean"), row.get("step_sem")
    if mean is None:
        return ""
    return f"{mean:+.4f}" if sem is None else f"{mean:+.4f} ± {sem:.4f}"


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


def _legend(figures: Mapping[str, Any]) -> str:
    count = f"{figures['finished']} of {figures['runs']} runs are finished."
    means = "Mean ± standard error over the seeds; a step is the mean difference between runs of one seed."
    return f"{means} {count}" if figures["finished"] < figures["runs"] else means
