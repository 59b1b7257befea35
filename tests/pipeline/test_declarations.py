"""Every command's flags, choices, defaults and helps are those of its models, and its declaration loads quickly."""

import subprocess
import sys
from typing import Any, get_args

import pytest

from sapnet_pipe.data.points.sampling import STRATEGIES
from sapnet_pipe.pipeline.cli import load_command, run
from sapnet_pipe.pipeline.command import flag_rows, input_rows, models_of
from sapnet_pipe.pipeline.commands import COMMANDS
from sapnet_pipe.pipeline.commands.points import Strategy
from sapnet_pipe.pipeline.settings_table import Row, named_flag, settings_table
from sapnet_pipe.stages.bags.config import RecipeName
from sapnet_pipe.stages.bags.recipes import RECIPES
from tests.places import child_environment

HEAVY = ("torch", "torchvision", "cv2", "pyarrow", "numpy", "pycocotools")


def rows_of(name: str) -> list[Row]:
    work = COMMANDS[name].load()
    return [*input_rows(work), *flag_rows(work)]


def parameters_of(name: str) -> dict[str, Any]:
    """The command's own parameters by flag, or by name if they are arguments."""
    command = load_command(COMMANDS[name])
    return {
        "/".join([*parameter.opts, *parameter.secondary_opts]): parameter
        for parameter in command.params
        if "--help" not in parameter.opts
    }


@pytest.mark.parametrize("name", COMMANDS)
def test_every_field_of_the_models_is_a_parameter_and_every_parameter_a_field(name: str) -> None:
    rows, parameters = rows_of(name), parameters_of(name)
    assert sorted(parameters) == sorted(row.flag or row.key for row in rows)
    for row in rows:
        parameter = parameters[row.flag or row.key]
        assert parameter.required == row.required
        assert row.description, f"{row.key} has no description"
        default = f"[default: {row.shown_default}]"
        if row.shown_default and row.type != "bool":
            assert parameter.help == f"{row.description}  {default}"
        else:
            assert parameter.help.startswith(row.description)
        assert parameter.default is None, "the model has the default"
        if row.choices:
            assert parameter.metavar == "|".join(row.choices)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_shows_all_that_its_models_declare(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert run([*name.split(), "-h"]) == 0
    printed = capsys.readouterr().out
    text, first_words = " ".join(printed.split()), {line.split()[0] for line in printed.splitlines() if line.strip()}
    assert COMMANDS[name].help in text
    for row in rows_of(name):
        if row.hidden:
            assert row.flag not in first_words
            continue
        assert row.flag.replace("/", " / ") in text
        assert row.description.replace("- ", "-") in text.replace("- ", "-")  # a line may end at a hyphen
        assert "|".join(row.choices) in text


def test_a_wrong_choice_of_any_flag_is_one_line_that_names_the_choices(capfd: pytest.CaptureFixture[str]) -> None:
    tried = 0
    for name in COMMANDS:
        required = [row for row in rows_of(name) if row.required]
        needed = [part for row in required for part in (row.flag, (row.choices or ("x",))[0]) if part]
        for row in rows_of(name):
            if row.choices and not row.key.endswith("_preset"):  # these are looked up when there is a plan
                assert run([*name.split(), *needed, row.flag, "wrong"]) == 2
                said = capfd.readouterr()
                assert said.out == ""
                assert len(said.err.splitlines()) == 1
                assert said.err.startswith(f"sapnet-pipe: {row.flag}: ")
                assert "wrong" in said.err
                assert all(choice in said.err for choice in row.choices)
                tried += 1
    assert tried >= 10


def test_what_one_module_names_another_one_does() -> None:
    assert get_args(Strategy) == tuple(STRATEGIES)
    assert get_args(RecipeName) == tuple(RECIPES)


def test_declarations_load_without_the_slow_packages() -> None:
    """`--help` has to answer at once, and doctor to run where these packages are broken."""
    script = f"""
import sys
from sapnet_pipe.pipeline.cli import load_command
from sapnet_pipe.pipeline.commands import COMMANDS
for entry in COMMANDS.values():
    load_command(entry)
print([name for name in {HEAVY} if name in sys.modules])
"""
    ended = subprocess.run([sys.executable, "-c", script], env=child_environment(), capture_output=True, text=True)
    assert ended.stdout.strip() == "[]", ended.stderr


def test_the_list_of_commands_needs_no_models() -> None:
    script = """
import sys
from sapnet_pipe.pipeline.cli import run
run(["--help"])
print([name for name in ("pydantic", "sapnet_pipe.pipeline.command") if name in sys.modules], file=sys.stderr)
"""
    ended = subprocess.run([sys.executable, "-c", script], env=child_environment(), capture_output=True, text=True)
    assert ended.stderr.strip() == "[]"
    assert all(name.split()[0] in ended.stdout for name in COMMANDS)


@pytest.mark.parametrize("name", ["evaluate", "report", "settings", "bags verify", "bags inspect"])
def test_options_without_effect_are_taken_and_not_shown(name: str) -> None:
    hidden = {row.flag for row in rows_of(name) if row.hidden}
    assert (
        hidden
        == {"--config", "--set", "--device", "--seed"}
        == {flag for flag, p in parameters_of(name).items() if p.hidden}
    )


def test_options_with_an_effect_are_shown() -> None:
    unused = {"points": {"--device"}, "generate-bags": {"--seed"}, "predict": {"--seed"}, "doctor": {"--seed"}}
    for name in ("points", "generate-bags", "select", "train-seg", "predict", "doctor", "demo", "ablate"):
        assert {row.flag for row in rows_of(name) if row.hidden} == unused.get(name, set())


def test_help_says_a_word_of_every_preset() -> None:
    for name, count in {"select": 4, "train-seg": 7, "ablate": 9}.items():
        (row,) = [row for row in rows_of(name) if row.flag == "--preset"]
        assert len(row.choices) == count
        assert all(f"{choice}: " in row.description for choice in row.choices)
    for name, flag in (("generate-bags", "--recipe"), ("generate-bags", "--sam"), ("select", "--method")):
        (row,) = [row for row in rows_of(name) if row.flag == flag]
        assert all(f"{choice}: " in row.description for choice in row.choices)


def test_a_flag_is_named_after_its_field() -> None:
    assert named_flag("val_labels") == "--val-labels"


@pytest.mark.parametrize("name", COMMANDS)
def test_the_settings_of_every_command_can_be_listed(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["settings", *name.split()]) == 0
    printed = capsys.readouterr().out
    for row in settings_table(models_of(COMMANDS[name].load())[1]):
        assert f"{row.key}" in printed
        assert row.description.split()[0] in printed
