"""The page on the method against the code: the settings that it calls the paper's are the defaults."""

import re
from typing import Any

import pytest

from sapnet_pipe.data.errors import UserError
from sapnet_pipe.pipeline.settings import resolve_settings
from sapnet_pipe.stages.segment.config import SegmentConfig
from sapnet_pipe.stages.segment.presets import PRESETS as SEGMENT_PRESETS
from sapnet_pipe.stages.select.config import SelectConfig
from sapnet_pipe.stages.select.presets import PRESETS as SELECT_PRESETS
from tests.places import ROOT

PAGE = (ROOT / "docs" / "method.md").read_text(encoding="utf-8")
ASSIGNMENT = re.compile(r"`([a-z_0-9]+(?:\.[a-z_0-9]+)*)=([^`]+)`")
NAME = re.compile(r"`([a-z_0-9]+\.[a-z_0-9]+)`")


def section(title: str) -> str:
    return PAGE.partition(f"\n{title}\n")[2].partition("\n## ")[0].partition("\n### ")[0]


def rows(title: str) -> list[list[str]]:
    lines = [line for line in section(title).splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def value_of(values: Any, key: str) -> Any:
    """The setting of that name in nested values; KeyError if there is none."""
    for name in key.split("."):
        values = values[name]
    return values


def same(text: str, value: Any) -> bool:
    return text.strip('"') == (str(value).lower() if isinstance(value, bool) else str(value)) or (
        isinstance(value, float) and float(text) == value
    )


def settings(preset: str = "") -> list[dict[str, Any]]:
    """Of both trainings, by their paper's preset or by the selector's `preset`."""
    select = resolve_settings(SelectConfig, preset=SELECT_PRESETS[preset or "coco-1x"]).model_dump()
    return [select, resolve_settings(SegmentConfig, preset=SEGMENT_PRESETS["solov2-r50-1x"]).model_dump()]


def test_the_settings_of_the_papers_statements_are_the_defaults() -> None:
    named = [found for row in rows("## The paper, statement by statement") for found in ASSIGNMENT.findall(row[1])]
    assert len(named) > 15
    for key, text in named:
        found = []
        for values in settings():
            try:
                found.append(value_of(values, key))
            except KeyError:
                continue
        assert found, f"there is no setting {key}"
        assert any(same(text, value) for value in found), f"{key} is {found}, not {text}"


def test_every_way_to_have_it_as_the_paper_is_a_setting() -> None:
    ways = [row[3] for row in rows("## Where it differs from the paper") if len(row) == 4]
    assert len(ways) > 10
    for way in ways:
        for key, text in ASSIGNMENT.findall(way):
            if text != "RUN_OF_SELECT":
                errors = [error for model in (SelectConfig, SegmentConfig) if (error := fault(model, key, text))]
                assert len(errors) < 2, errors
        for key in NAME.findall(way):
            assert any(has(values, key) for values in settings()), key


@pytest.mark.parametrize("preset", ["small", "demo"])
def test_what_a_preset_has_otherwise_is_on_the_page(preset: str) -> None:
    (row,) = [row for row in rows("## Where it differs from the paper") if row[0] == f"`{preset}`"]
    plain, values = settings()[0], settings(preset)[0]
    modules = ("pdg", "bms", "prm", "positives", "negatives", "completeness", "assignment")
    changed = {
        f"{module}.{name}": value
        for module in modules
        for name, value in values[module].items()
        if value != plain[module][name]
    }
    named = dict(ASSIGNMENT.findall(row[1]))
    assert named.keys() == changed.keys()
    assert all(same(text, changed[key]) for key, text in named.items())


def fault(model: type[SelectConfig] | type[SegmentConfig], key: str, text: str) -> UserError | None:
    try:
        resolve_settings(model, assignments=[f"{key}={text}"])
    except UserError as error:
        return error
    return None


def has(values: Any, key: str) -> bool:
    try:
        value_of(values, key)
    except (KeyError, TypeError):
        return False
    return True
