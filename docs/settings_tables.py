"""The tables of docs/settings.md: for every command what it is given, and every setting of its model."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import typer
from pydantic import BaseModel

from sapnet_pipe.pipeline import command_settings as plain
from sapnet_pipe.pipeline.ablate.settings import AblateSettings
from sapnet_pipe.pipeline.cli import app
from sapnet_pipe.pipeline.doctor.settings import DoctorSettings
from sapnet_pipe.pipeline.settings_table import Row, settings_table
from sapnet_pipe.stages.bags.config import BagsConfig
from sapnet_pipe.stages.segment.config import SegmentConfig
from sapnet_pipe.stages.select.config import SelectConfig

MODELS: dict[str, type[BaseModel]] = {
    "points": plain.PointsSettings,
    "generate-bags": BagsConfig,
    "select": SelectConfig,
    "train-seg": SegmentConfig,
    "predict": plain.PredictSettings,
    "demo": plain.DemoSettings,
    "ablate": AblateSettings,
    "doctor": DoctorSettings,
    "bags import": plain.ImportSettings,
}
"""Commands that are not here have no settings but those of every command."""

EVERYWHERE = {"--config", "--set", "--device", "--seed", "--json", "--quiet", "--help"}


def settings_tables() -> str:
    """All commands as Markdown, in the order of ``sapnet-pipe --help``."""
    parts: list[str] = []
    for name, command in commands(typer.main.get_command(app)):
        rows = settings_table(MODELS[name]) if name in MODELS else []
        parts += [f"## {name}", _paragraph(command.help or ""), _inputs_table(command, rows), *_settings_tables(rows)]
    return "\n\n".join(part for part in parts if part)


def commands(command: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every command with its full name, those of groups too: ``bags merge``."""
    for name, child in command.commands.items():
        if hasattr(child, "commands"):
            yield from commands(child, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}", child


def _inputs_table(command: Any, settings: Sequence[Row]) -> str:
    """What the command line takes that is no setting: files, folders, switches."""
    known = EVERYWHERE | {flag for row in settings for flag in row.flag.split("/")}
    rows = []
    for parameter in command.params:
        flags = [*parameter.opts, *parameter.secondary_opts]
        if known.isdisjoint(flags):
            named = ", ".join(f"`{flag}`" for flag in flags) if parameter.param_type_name == "option" else "arguments"
            rows.append((named, getattr(parameter, "help", None) or "", "required" if parameter.required else ""))
    return _table(("given", "what it is", ""), rows) if rows else ""


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
    flags = "/".join(f"`{flag}`" for flag in row.flag.split("/") if flag)
    return f"`{row.key}`" + (f", {flags}" if flags else "")


def _values(row: Row) -> str:
    kind = " ".join(f"`{choice}`" for choice in row.choices) if row.choices else row.type
    return ", ".join(part for part in (kind, row.limits) if part)


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


def _table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [header, ("---",) * len(header), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def _paragraph(text: str) -> str:
    return " ".join(text.split("\n\n")[0].split())
