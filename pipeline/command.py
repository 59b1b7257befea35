"""From a function of inputs and settings to a command of typer: every flag, choice, default and help is its models'.

A command is a function ``work(inputs, settings) -> Report``, or ``work(inputs)`` if it has no settings of its own; the
types of the two parameters are the models (see `pipeline.inputs`).
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Annotated, Any, get_type_hints

import typer
from pydantic import BaseModel
from typer.core import TyperCommand

from sapnet_pipe.pipeline.inputs import Argument, Inputs, PlainSettings
from sapnet_pipe.pipeline.report import Report, show
from sapnet_pipe.pipeline.settings import Presets, preset_named, resolve_settings
from sapnet_pipe.pipeline.settings_table import Row, named_flag, settings_table
from sapnet_pipe.stages.flags import Flag

Work = Callable[..., Report]

_LAST = ("config", "assign", "device", "seed", "as_json", "quiet")  # flags of every command, after its own
_PARSED = {"bool": bool, "int": int, "float": float}


def typer_command(text: str, work: Work) -> TyperCommand:
    """The command with the help `text`, which does `work` and shows its report."""

    def call(**given: Any) -> None:
        report, inputs = run_work(work, given)
        show(report, as_json=inputs.as_json, quiet=inputs.quiet)
        if report.exit_code:
            raise typer.Exit(report.exit_code)

    call.__signature__ = inspect.Signature([_parameter(row) for row in _ordered(work)])  # type: ignore[attr-defined]
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command(help=text, context_settings={"help_option_names": ["-h", "--help"]})(call)
    command = typer.main.get_command(app)
    if not isinstance(command, TyperCommand):
        raise TypeError(f"{work.__name__} became a {type(command).__name__}")
    return command


def models_of(work: Work) -> tuple[type[Inputs], type[BaseModel]]:
    """The inputs and the settings of a command."""
    *models, _ = get_type_hints(work).values()
    inputs, settings = [*models, PlainSettings][:2]
    return inputs, settings


def input_rows(work: Work) -> list[Row]:
    """The inputs of a command: all are flags, except for arguments, whose flag is empty."""
    inputs, _ = models_of(work)
    rows = [replace(row, hidden=_alone(work) and row.key in ("config", "assign")) for row in settings_table(inputs)]
    return [row if row.flag or _is_argument(row) else replace(row, flag=named_flag(row.key)) for row in rows]


def flag_rows(work: Work) -> list[Row]:
    """The settings of a command that have a flag of their own."""
    _, settings = models_of(work)
    return [row for row in settings_table(settings) if row.flag]


def _ordered(work: Work) -> list[Row]:
    rows = [*input_rows(work), *flag_rows(work)]
    return sorted(rows, key=lambda row: _LAST.index(row.key) if row.key in _LAST else -1)


def run_work(work: Work, given: Mapping[str, Any]) -> tuple[Report, Inputs]:
    """Resolve inputs and settings, and do the work.

    Args:
        given: By parameter what stood on the command line; None, or an empty list, means "not given".
    """
    values = {name: value for name, value in given.items() if value not in (None, [], ())}
    return do_work(work, _given(values, input_rows(work)), flags=_given(values, flag_rows(work)))


def do_work(
    work: Work,
    given: Mapping[str, Any],
    *,
    flags: Mapping[str, Any] | None = None,
    values: Mapping[str, Any] | None = None,
) -> tuple[Report, Inputs]:
    """Do the work on these inputs, with the settings of their preset, file and assignments, `flags` and `values`.

    Raises: UserError naming the first input or setting at fault, and as the work itself.
    """
    input_model, settings_model = models_of(work)
    inputs = resolve_settings(input_model, flags=given)
    settings = resolve_settings(
        settings_model,
        preset=_preset(inputs),
        file=inputs.config,
        assignments=inputs.assign,
        flags=flags,
        values=values,
    )
    return work(inputs) if _alone(work) else work(inputs, settings), inputs


def _alone(work: Work) -> bool:
    """Whether the command has no settings of its own, so that a file of them, or --set, changes nothing."""
    return len(inspect.signature(work).parameters) == 1


def _preset(inputs: Inputs) -> Mapping[str, Any]:
    """The values of the preset that was named, if the command has presets."""
    for name, field in type(inputs).model_fields.items():
        for mark in field.metadata:
            if isinstance(mark, Presets) and getattr(inputs, name) is not None:
                return preset_named(mark.named, getattr(inputs, name))
    return {}


def _given(values: Mapping[str, Any], rows: list[Row]) -> dict[str, Any]:
    """The values of these rows, nested by their keys."""
    nested: dict[str, Any] = {}
    for row in rows:
        if _name(row) in values:
            *path, last = row.key.split(".")
            inner = nested
            for part in path:
                inner = inner.setdefault(part, {})
            inner[last] = values[_name(row)]
    return nested


def _name(row: Row) -> str:
    return row.key.replace(".", "_")


def _is_argument(row: Row) -> bool:
    return any(isinstance(mark, Argument) for mark in row.field.metadata)


def _parameter(row: Row) -> inspect.Parameter:
    """The parameter from which typer makes the option or argument; what is not given is None."""
    kind: Any = list[str] if row.type.startswith("list of") else _PARSED.get(row.type.partition(" or ")[0], str)
    help_text = f"{row.description}  [default: {_default(row)}]" if _default(row) else row.description
    if _is_argument(row):
        mark = typer.Argument(help=help_text, show_default=False)
    else:
        metavar = None if kind is bool else _metavar(row)
        mark = typer.Option(row.flag, help=help_text, show_default=False, metavar=metavar, hidden=row.hidden)
    return inspect.Parameter(
        _name(row),
        inspect.Parameter.KEYWORD_ONLY,
        default=inspect.Parameter.empty if row.required else None,
        annotation=Annotated[kind if row.required else kind | None, mark],
    )


def _metavar(row: Row) -> str:
    mark = next((entry.metavar for entry in row.field.metadata if isinstance(entry, Flag)), "")
    return mark or "|".join(row.choices) or f"<{row.type.partition(' or ')[0].removeprefix('list of ')}>"


def _default(row: Row) -> str:
    """As the help shows it; of a switch only where its opposite has a name."""
    if not isinstance(row.default, bool):
        return row.shown_default
    yes, _, no = row.flag.partition("/")
    return (yes if row.default else no).lstrip("-") if no else ""
