"""Settings: which source wins, and what is said of a wrong one."""

from pathlib import Path

import pytest
from pydantic import BaseModel, Field

from sapnet_pipe.data.errors import UserError
from sapnet_pipe.pipeline.settings import read_toml, resolve_settings, to_json_line, to_toml


class Inner(BaseModel, frozen=True, extra="forbid"):
    lr: float = Field(0.1, gt=0)
    steps: tuple[int, ...] = (1, 2)
    name: str | None = None


class Outer(BaseModel, frozen=True, extra="forbid"):
    train: Inner = Inner()
    seed: int = Field(0, ge=0)


def test_later_sources_win(tmp_path: Path) -> None:
    file = tmp_path / "s.toml"
    file.write_text("seed = 2\n[train]\nlr = 0.3\nname = 'file'\n")
    preset = {"seed": 1, "train": {"lr": 0.2, "steps": [5]}}
    resolved = resolve_settings(Outer, preset=preset, file=file, assignments=["train.lr=0.4"], flags={"seed": None})
    assert resolved == Outer(seed=2, train=Inner(lr=0.4, steps=(5,), name="file"))
    assert resolve_settings(Outer, file=file, flags={"seed": 9}).seed == 9
    assert preset == {"seed": 1, "train": {"lr": 0.2, "steps": [5]}}, "presets are left as they are"


@pytest.mark.parametrize(
    ("assignment", "expected"),
    [
        pytest.param("train.lr=1e-3", Inner(lr=1e-3), id="number"),
        pytest.param("train.steps=[3, 4]", Inner(steps=(3, 4)), id="list"),
        pytest.param("train.name=a/b c.pt", Inner(name="a/b c.pt"), id="bare text"),
        pytest.param('train.name="7"', Inner(name="7"), id="quoted text"),
    ],
)
def test_assignments_are_read_as_toml_values(assignment: str, expected: Inner) -> None:
    assert resolve_settings(Outer, assignments=[assignment]).train == expected


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        pytest.param("train.lr=-1", ["--set", "train.lr", "-1", "greater than 0"], id="out of bounds"),
        pytest.param("train.rate=1", ["--set", "train.rate", "lr", "steps"], id="unknown"),
        pytest.param("seed=many", ["--set", "seed", "many", "integer"], id="wrong type"),
        pytest.param("seed", ["--set", "seed", "key=value"], id="no equals sign"),
        pytest.param("train=3", ["--set", "train"], id="number for a table"),
    ],
)
def test_a_wrong_setting_is_named_with_its_source(assignment: str, words: list[str]) -> None:
    with pytest.raises(UserError) as fault:
        resolve_settings(Outer, assignments=[assignment])
    assert all(word in str(fault.value) for word in words), str(fault.value)


def test_malformed_toml_is_a_user_error(tmp_path: Path) -> None:
    file = tmp_path / "s.toml"
    file.write_text("seed = = 2")
    with pytest.raises(UserError, match="not valid TOML"):
        resolve_settings(Outer, file=file)
    with pytest.raises(UserError, match="does not exist"):
        read_toml(tmp_path / "none.toml")


def test_resolved_settings_survive_the_round_trip(tmp_path: Path) -> None:
    file = tmp_path / "s.toml"
    settings = Outer(seed=3, train=Inner(lr=0.7))
    file.write_text(to_toml(settings))
    assert resolve_settings(Outer, file=file) == settings


def test_json_line_has_no_bare_nan() -> None:
    assert to_json_line({"a": float("nan"), "b": {"c": [float("inf"), 1]}}) == '{"a": null, "b": {"c": [null, 1]}}'
