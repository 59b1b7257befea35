"""Numbers that no machine and no training could take are refused when the settings are read."""

import math
from typing import Any

import pytest
from pydantic import BaseModel

from sapnet_pipe.data.errors import UserError
from sapnet_pipe.pipeline.ablate.settings import AblateSettings
from sapnet_pipe.pipeline.command import models_of
from sapnet_pipe.pipeline.commands import COMMANDS
from sapnet_pipe.pipeline.settings import resolve_settings
from sapnet_pipe.pipeline.settings_table import settings_table
from sapnet_pipe.stages.segment.config import SegmentConfig
from sapnet_pipe.stages.select.config import SelectConfig


@pytest.mark.parametrize("name", COMMANDS)
def test_every_number_of_every_command_has_two_bounds(name: str) -> None:
    rows = settings_table(models_of(COMMANDS[name].load())[1])
    numbers = [row for row in rows if row.type in ("int", "float")]
    assert [row.key for row in numbers if not (">" in row.limits and "<" in row.limits)] == []


@pytest.mark.parametrize(
    ("model", "setting", "words"),
    [
        (SelectConfig, "train.batch_size=1000000000", "less than or equal to 65536"),
        (SelectConfig, f"seed={10**30}", "less than or equal to 10000000000000"),
        (SelectConfig, "train.lr=1e300", "less than or equal to 1000"),
        (SelectConfig, "train.lr=nan", "less than or equal to 1000"),
        (SelectConfig, "train.epochs=inf", "less than or equal to 1000000"),
        (SelectConfig, "train.workers=100000", "less than or equal to 1024"),
        (SegmentConfig, "image.short_sides=[640, 1000000]", "1000000 pixels are not from 32 to 65,536"),
        (SegmentConfig, "train.milestones=[0.5, nan]", "nan is neither a share"),
        (SegmentConfig, "head.num_grids=[40, 36, 24, 16, 100000]", "1 to 1000 cells"),
        (SegmentConfig, "head.scale_ranges=[[1, inf]]", "is not a range of sizes"),
        (AblateSettings, f"seeds=[0, {10**30}]", "none over 10000000000000"),
    ],
)
def test_a_number_beyond_any_machine_is_refused_by_name(model: type[BaseModel], setting: str, words: str) -> None:
    with pytest.raises(UserError) as caught:
        resolve_settings(model, assignments=[setting])
    assert caught.value.field == setting.partition("=")[0]
    assert words in str(caught.value)


@pytest.mark.parametrize("batch", [10**400, math.inf])
def test_a_batch_that_no_float_holds_is_refused_where_the_rate_follows_it(batch: Any) -> None:
    with pytest.raises(UserError, match=r"train\.batch_size"):
        resolve_settings(SelectConfig, values={"train": {"batch_size": batch}})
