"""The tables of docs/settings.md: for every command what it is given, and every setting of its model."""

from collections.abc import Iterator, Sequence
from itertools import groupby

from sapnet_pipe.pipeline.command import input_rows, models_of
from sapnet_pipe.pipeline.commands import COMMANDS
from sapnet_pipe.pipeline.inputs import Inputs, PlainSettings
from sapnet_pipe.pipeline.settings_table import Row, settings_table


def settings_tables() -> str:
    """All commands as Markdown, in the order of ``sapnet-pipe --help``."""
    parts: list[str] = []
    for name, entry in COMMANDS.items():
        work = entry.load()
        _, settings = models_of(work)
        rows = [] if settings is PlainSettings else settings_table(settings)
        parts += [f"## {name}", entry.help, _inputs_table(input_rows(work)), *_settings_tables(rows)]
    return "\n\n".join(part for part in parts if part)


def _inputs_table(inputs: Sequence[Row]) -> str:
    """What the command line takes that is no setting: files, folders, switches."""
    rows = [
        (_flags(row) or "arguments", _values(row), row.description, "required" if row.required else "")
        for row in inputs
        if row.key not in Inputs.model_fields
    ]
    return _table(("given", "values", "what it is", ""), rows) if rows else ""


def _settings_tables(rows: Sequence[Row]) -> Iterator[str]:
    """A table of the settings at the top, then one for each group of them."""
    for group, members in groupby(sorted(rows, key=lambda row: "." in row.key), key=_group):
        if group:
            yield f"**{group}**"
        yield _table(
            ("setting", "values", "default", "what it does"),
            [(_name(row), _values(row), _code(row.shown_default), row.description) for row in members],
        )


def _group(row: Row) -> str:
    return row.key.rpartition(".")[0]


def _name(row: Row) -> str:
    """The key, and the flag if it has one."""
    return f"`{row.key}`, {_flags(row)}" if row.flag else f"`{row.key}`"


def _flags(row: Row) -> str:
    return "/".join(_code(flag) for flag in row.flag.split("/"))


def _values(row: Row) -> str:
    kind = " ".join(f"`{choice}`" for choice in row.choices) if row.choices else row.type
    return ", ".join(part for part in (kind, row.limits) if part)


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


def _table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [header, ("---",) * len(header), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)
