"""What a settings model declares, row by row: the command line's flags, the documentation's tables and hints of error
messages are made of it."""

import types
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from sapnet_pipe.pipeline.settings import Presets
from sapnet_pipe.stages.flags import Flag

_NAMES = {str: "text", int: "int", float: "float", bool: "bool", Path: "path", dict: "table"}
_LIMITS = (("gt", ">"), ("ge", ">="), ("lt", "<"), ("le", "<="))


@dataclass(frozen=True)
class Row:
    """One setting, or one input.

    Attributes:
        key: Dotted, as ``--set`` and config.toml name it: ``train.lr``.
        type: For people: ``int``, ``text``, ``list of float``, ``int or list of int``; of choices the type they have.
        choices: The values there are, if they are few; empty where any value of the type may stand.
        limits: ``> 0, <= 1``; empty where there are none.
        default: The default value; None also where there is none, see `required`.
        required: Whether there is no default.
        description: One sentence or two.
        flag: The flag of its own, if it has one, as it is typed: ``--fast/--exact``; else empty.
        field: The field itself.
        hidden: Whether its flag is accepted without effect, and left out of the help.
    """

    key: str
    type: str
    choices: tuple[str, ...]
    limits: str
    default: Any
    required: bool
    description: str
    flag: str
    field: FieldInfo
    hidden: bool = False

    @property
    def shown_default(self) -> str:
        """The default for people: as TOML has it; empty if there is none, or it means "not given"."""
        return _shown(self.default)

    @property
    def name(self) -> str:
        """The last part of the key."""
        return self.key.rpartition(".")[2]


def settings_table(model: type[BaseModel]) -> list[Row]:
    """Every setting of a model, those of nested models at their place, in the order of the fields."""
    return list(_rows(model, "", None))


def named_flag(name: str) -> str:
    """The flag after a field's name: ``val_labels`` is ``--val-labels``."""
    return f"--{name.replace('_', '-')}"


def _rows(model: type[BaseModel], path: str, defaults: BaseModel | None) -> Iterator[Row]:
    for name, field in model.model_fields.items():
        required = defaults is None and field.is_required()
        default = None if required else field.get_default() if defaults is None else getattr(defaults, name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _rows(field.annotation, f"{path}{name}.", default)
            continue
        yield Row(
            key=f"{path}{name}",
            type=_type_name(field.annotation),
            choices=_presets(field) or _choices(field.annotation),
            limits=_limits(field),
            default=default,
            required=required,
            description=_description(field),
            flag=_flag(name, field),
            field=field,
            hidden=any(isinstance(mark, Flag) and mark.hidden for mark in field.metadata),
        )


def _type_name(annotation: Any) -> str:
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type_name(inner[0])
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(_type_name(member) for member in inner if member is not types.NoneType))
    if origin is Literal:
        return " or ".join(dict.fromkeys(_type_name(type(value)) for value in inner))
    if origin in (tuple, list):
        return f"list of {_type_name(inner[0])}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "table"
    return _NAMES.get(origin or annotation, "any")


def _choices(annotation: Any) -> tuple[str, ...]:
    """The values of a Literal, also of one that may be None."""
    inner = get_args(annotation)
    if get_origin(annotation) is Literal:
        return tuple(str(value) for value in inner)
    members = [member for member in inner if member is not types.NoneType]
    if get_origin(annotation) in (Union, types.UnionType) and len(members) == 1:
        return _choices(members[0])
    return ()


def _presets(field: FieldInfo) -> tuple[str, ...]:
    return next((tuple(mark.named) for mark in field.metadata if isinstance(mark, Presets)), ())


def _description(field: FieldInfo) -> str:
    """That of the field, and of each preset that it can name."""
    about = [f"{name}: {text}" for mark in field.metadata if isinstance(mark, Presets) for name, text in mark.about]
    return " ".join(filter(None, (field.description, f"{'; '.join(about)}." if about else "")))


def _limits(field: FieldInfo) -> str:
    found = [(sign, getattr(entry, name)) for entry in field.metadata for name, sign in _LIMITS if hasattr(entry, name)]
    return ", ".join(f"{sign} {value:g}" for sign, value in found)


def _flag(name: str, field: FieldInfo) -> str:
    mark = next((entry for entry in field.metadata if isinstance(entry, Flag)), None)
    return "" if mark is None else mark.name or named_flag(name)


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, (tuple, list)):
        return f"[{', '.join(map(_shown, value))}]" if value else ""
    return "" if value in (None, {}) else str(value)
