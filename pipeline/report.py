"""What a command says when it ends: a short summary for people, or one line of JSON for programs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import typer

from sapnet_pipe.data.errors import one_line
from sapnet_pipe.pipeline.settings import to_json_line


@dataclass(frozen=True)
class Report:
    """The end of a command.

    Attributes:
        title: One line: what was done.
        result: Figures, counts and paths; printed as a table, or, with the notes, whole as JSON.
        next_step: The command to run next, if there is one.
        notes: What must not be overlooked, a line each.
        shown: What people see in place of the whole result.
        more: What people see below it, such as a table.
        silent: Show nothing: another of the processes that did this together does.
        exit_code: Of the command.
        urgent: What --quiet does not keep back either, a line each, for standard error.
    """

    title: str
    result: Mapping[str, Any]
    next_step: str | None = None
    notes: Sequence[str] = ()
    shown: Mapping[str, Any] | None = None
    more: str = ""
    silent: bool = False
    exit_code: int = 0
    urgent: Sequence[str] = ()


def show(report: Report, *, as_json: bool, quiet: bool) -> None:
    """Print the report; with `as_json` the last line of standard output is the result as JSON."""
    if report.silent:
        return
    if not quiet:
        typer.echo(report.title)
        for name, value in _flat(report.result if report.shown is None else report.shown).items():
            typer.echo(f"  {name:<32} {_plain(value)}")
        if report.more:
            typer.echo(f"\n{report.more}\n")
        for note in report.notes:
            typer.echo(f"Note: {one_line(note)}")
        if report.next_step:
            typer.echo(f"Next: {report.next_step}")
    else:
        for line in report.urgent:
            typer.echo(line, err=True)
    if as_json:
        own = list(report.result.get("notes", ()))
        notes = own + [note for note in report.notes if note not in own]
        typer.echo(to_json_line({**report.result, "notes": notes}))


def table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """Left-aligned first column, right-aligned others."""
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    lines = []
    for row in (header, *rows):
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        lines.append("  ".join(cells).rstrip())
    lines.insert(1, "-" * len(lines[0]))
    return "\n".join(lines)


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        elif value not in (None, "", [], ()):
            flat[f"{prefix}{key}"] = value
    return flat


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:.0f}"
    if isinstance(value, (list, tuple)):
        return ", ".join(_plain(item) for item in value[:8]) + (" ..." if len(value) > 8 else "")
    return one_line(value)
