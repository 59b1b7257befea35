"""`sapnet-pipe settings`: every setting of a command, with its type, default and meaning."""

from textwrap import wrap
from typing import Annotated

from pydantic import BaseModel, Field

from sapnet_pipe.data.errors import UserError
from sapnet_pipe.pipeline.inputs import Argument, Inputs
from sapnet_pipe.pipeline.report import Report
from sapnet_pipe.pipeline.settings_table import Row, settings_table

_WIDTH = 112


class SettingsInputs(Inputs, frozen=True, extra="forbid"):
    """What `settings` takes."""

    command: Annotated[tuple[str, ...], Argument()] = Field(description="The command, for example select.")


def settings(inputs: SettingsInputs) -> Report:
    """List the settings that `--set` and `--config` reach."""
    model = _settings_of(" ".join(inputs.command))
    rows = settings_table(model)
    listed = [{"key": row.key, "type": _values(row), "default": row.default, "flag": row.flag} for row in rows]
    lines = [line for row in rows for line in _lines(row)]
    return Report("\n".join(lines), {"settings": listed}, shown={})


def _settings_of(name: str) -> type[BaseModel]:
    from sapnet_pipe.pipeline.command import models_of
    from sapnet_pipe.pipeline.commands import COMMANDS

    if name not in COMMANDS:
        known = ", ".join(COMMANDS)
        raise UserError("settings", "COMMAND", name, "which is no command", f"Choose one of: {known}")
    return models_of(COMMANDS[name].load())[1]


def _lines(row: Row) -> list[str]:
    default = f" = {row.shown_default}" if row.shown_default else ""
    flag = f"   {row.flag}" if row.flag else ""
    return [f"{row.key}{default}   ({_values(row)}){flag}", *(f"    {line}" for line in wrap(row.description, _WIDTH))]


def _values(row: Row) -> str:
    return "|".join(row.choices) or " ".join(filter(None, (row.type, row.limits)))
