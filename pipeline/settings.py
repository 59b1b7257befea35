"""Settings of a command: defaults, preset, TOML file, ``--set`` and flags, later ones winning, checked once."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import tomli_w
from pydantic import BaseModel, ValidationError

from sapnet_pipe.data.errors import SettingError, UserError
from sapnet_pipe.data.files import reading

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True)
class Presets:
    """Marks the field that names a preset; `named` are the nested values of each, `about` what its help says of it."""

    named: Mapping[str, Mapping[str, Any]]
    about: tuple[tuple[str, str], ...] = ()


def resolve_settings(
    model: type[Model],
    *,
    preset: Mapping[str, Any] | None = None,
    file: Path | None = None,
    assignments: Sequence[str] = (),
    flags: Mapping[str, Any] | None = None,
    values: Mapping[str, Any] | None = None,
) -> Model:
    """One validated settings model.

    Args:
        model: The pydantic model of the command.
        preset: Nested values of the named preset.
        file: TOML file of nested values.
        assignments: ``key.subkey=value`` texts; a value is read as TOML, else taken as a string.
        flags: Values of the command line's own flags; None means "not given".
        values: Nested values of a Python program.
    Raises: UserError naming the first setting at fault.
    """
    resolved: dict[str, Any] = {}
    origin: dict[str, str] = {}
    _overlay(resolved, dict(preset or {}), origin, "preset")
    if file is not None:
        _overlay(resolved, read_toml(file), origin, str(file))
    for text in assignments:
        _overlay(resolved, _assignment(text), origin, "--set")
    for key, value in (flags or {}).items():
        if value is not None:
            _overlay(resolved, {key: value}, origin, f"--{key.replace('_', '-')}")
    _overlay(resolved, dict(values or {}), origin, "settings")
    try:
        return model.model_validate(resolved)
    except ValidationError as error:
        raise _named(error, origin, model) from error


def read_toml(path: Path) -> dict[str, Any]:
    """Parse a TOML file. Raises: UserError if it is missing or malformed."""
    with reading(path):
        content = path.read_bytes()
    try:
        return tomllib.loads(content.decode())
    except (ValueError, RecursionError) as error:  # among them not TOML, not UTF-8, 5,000 digits
        raise UserError(path, "content", content[:40], f"not valid TOML ({error})", "Correct the file") from error


def to_toml(settings: BaseModel) -> str:
    """The resolved settings as TOML; what is None is left out, which means the same."""
    return tomli_w.dumps(_without_none(settings.model_dump(mode="json")))


def preset_named(presets: Mapping[str, Mapping[str, Any]], name: str) -> Mapping[str, Any]:
    """The preset of that name. Raises: UserError listing the names there are."""
    if name not in presets:
        known = ", ".join(sorted(presets))
        raise UserError("--preset", "name", name, "no such preset", f"Choose one of: {known}")
    return presets[name]


def _overlay(
    values: dict[str, Any], new: Mapping[str, Any], origin: dict[str, str], source: str, path: str = ""
) -> None:
    for key, value in new.items():
        name = f"{path}{key}"
        if isinstance(value, Mapping) and isinstance(values.get(key), dict):
            _overlay(values[key], value, origin, source, f"{name}.")
        else:
            values[key] = _copied(value)
            origin[name] = source


def _copied(value: Any) -> Any:
    return {key: _copied(item) for key, item in value.items()} if isinstance(value, Mapping) else value


def _assignment(text: str) -> dict[str, Any]:
    key, separator, raw = text.partition("=")
    names = key.strip().split(".")
    if not separator or not all(names):
        raise UserError("--set", "argument", text, "not of the form key=value", "Write for example train.lr=0.01")
    value: Any = _parsed(raw.strip())
    for name in reversed(names):
        value = {name: value}
    return value


def _parsed(raw: str) -> Any:
    """A TOML value (number, true, list, quoted string), or the bare text itself."""
    try:
        return tomllib.loads(f"value = {raw}")["value"]
    except (ValueError, RecursionError):
        return raw


def _named(error: ValidationError, origin: Mapping[str, str], model: type[BaseModel]) -> UserError:
    fault = error.errors()[0]
    cause = fault.get("ctx", {}).get("error")
    between = cause if isinstance(cause, SettingError) else None  # which of several settings it is about
    names = [*(str(part) for part in fault["loc"]), *([between.field] if between else [])]
    field = ".".join(names) or "settings"
    source = next((origin[name] for name in _prefixes(field) if name in origin), "settings")
    if fault["type"] == "extra_forbidden":
        known = _siblings(model, [str(part) for part in fault["loc"][:-1]])
        return UserError(source, field, fault["input"], "no such setting", f"Known here: {', '.join(known)}")
    others = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    if between is not None:
        return UserError(source, field, between.value, f"{between.problem}{others}", between.hint)
    problem = fault["msg"].removeprefix("Value error, ").rstrip(".")
    return UserError(source, field, fault["input"], f"{problem}{others}", "Correct this setting")


def _prefixes(field: str) -> list[str]:
    parts = field.split(".")
    return [".".join(parts[:count]) for count in range(len(parts), 0, -1)]


def _siblings(model: type[BaseModel], path: Sequence[str]) -> list[str]:
    current: Any = model
    for name in path:
        field = current.model_fields.get(name) if isinstance(current, type) and issubclass(current, BaseModel) else None
        if field is None:
            return []
        current = field.annotation
    return sorted(current.model_fields) if isinstance(current, type) and issubclass(current, BaseModel) else []


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    return [_without_none(item) for item in value] if isinstance(value, list) else value


def to_json_line(value: Mapping[str, Any]) -> str:
    """One line of strict JSON; NaN and infinities become null."""
    line = json.dumps(_finite(value), allow_nan=False, ensure_ascii=False, default=str)
    return line.encode(errors="backslashreplace").decode()  # of file names that are not UTF-8, as JSON has it


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, (list, tuple)) else value
