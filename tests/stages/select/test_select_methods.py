"""The paper's method and ours, each under its own name."""

import pytest
from pydantic import ValidationError

from sapnet_pipe.data.errors import UserError
from sapnet_pipe.pipeline.settings import resolve_settings
from sapnet_pipe.stages.select.config import PdgConfig, SelectConfig
from sapnet_pipe.stages.select.presets import PRESETS

# What the supplement says of the selector; a small network and small images need other numbers in `SMALLER` alone.
PAPER: dict[str, dict[str, object]] = {
    "pdg": {"enabled": True, "power": 1.0, "exponent": 0.015},
    "bms": {"enabled": True, "after": "both", "top_k": 3, "t_min1": 0.6, "t_min2": 0.3, "tolerance": 0.0},
    "positives": {"enabled": True},
    "negatives": {"enabled": True, "t_neg1": 0.3, "t_neg2": 0.5},
    "prm": {"enabled": True, "beta": True, "positive_weight": 0.25, "negative_weight": 0.75},
    "completeness": {"enabled": False},
    "assignment": {"enabled": False},
}
SMALLER = {name: {"negatives.random_boxes", "negatives.part_min_side", "prm.prior"} for name in ("small", "demo")}


def of(preset: str, **values: object) -> SelectConfig:
    return SelectConfig.model_validate({**PRESETS[preset], **values})


@pytest.mark.parametrize("preset", PRESETS)
def test_sapnet_is_the_papers_in_every_preset(preset: str) -> None:
    config = of(preset)
    assert config.method == "sapnet"
    assert config.psm_weight == 0.25
    for module, wanted in PAPER.items():
        found = getattr(config, module).model_dump()
        assert {name: found[name] for name in wanted} == wanted, module


@pytest.mark.parametrize("preset", PRESETS)
def test_what_a_preset_changes_of_the_method_is_what_small_images_need(preset: str) -> None:
    plain, config = SelectConfig().model_dump(), of(preset).model_dump()
    changed = {
        f"{module}.{name}" for module in PAPER for name, value in config[module].items() if value != plain[module][name]
    }
    assert changed == SMALLER.get(preset, set())


@pytest.mark.parametrize("preset", PRESETS)
def test_sapnet_plus_has_the_additions_in_every_preset(preset: str) -> None:
    config = of(preset, method="sapnet-plus")
    assert config.completeness.enabled
    assert config.assignment.enabled
    assert config.pdg.exponent == 4.0


def test_what_is_set_wins_over_what_sapnet_plus_has() -> None:
    config = of("demo", method="sapnet-plus", completeness={"enabled": False}, pdg=PdgConfig(exponent=1.0))
    assert not config.completeness.enabled
    assert config.assignment.enabled
    assert config.pdg.exponent == 1.0
    again = SelectConfig.model_validate(config.model_dump())
    assert again == config


@pytest.mark.parametrize("addition", ["completeness", "assignment"])
def test_an_addition_cannot_go_by_the_papers_name(addition: str) -> None:
    with pytest.raises(ValidationError, match=f"{addition}.enabled = True, which goes beyond the paper's sapnet"):
        SelectConfig.model_validate({addition: {"enabled": True}})


def test_mining_after_a_module_that_is_off_is_refused() -> None:
    with pytest.raises(UserError, match=r"--set: bms\.after = prm, but PRM is switched off .* psm or both"):
        resolve_settings(SelectConfig, assignments=["bms.after=prm", "prm.enabled=false"])
    assert not resolve_settings(SelectConfig, assignments=["prm.enabled=false"]).prm.enabled


def test_the_refused_addition_is_named_with_the_method_that_has_it() -> None:
    with pytest.raises(UserError) as caught:
        resolve_settings(SelectConfig, assignments=["assignment.enabled=true"])
    assert str(caught.value) == (
        "--set: assignment.enabled = True, which goes beyond the paper's sapnet. Give --method sapnet-plus with it."
    )
