"""What a file of an ablation may say."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field, field_validator

from sapnet_pipe.data.scenes.styles import NEW_STYLES
from sapnet_pipe.pipeline.demo.settings import SceneSettings
from sapnet_pipe.pipeline.settings import Presets
from sapnet_pipe.stages.flags import FLAG, MAX_SEED
from sapnet_pipe.stages.segment.presets import PRESETS as SEGMENT_PRESETS
from sapnet_pipe.stages.select.presets import PRESETS as SELECT_PRESETS

MAX_SEEDS = 1000


def _seeds(value: Any) -> Any:
    """Checked here as a whole: pydantic would speak of every kind of value that it might have been."""
    listed = list(value) if isinstance(value, (list, tuple)) else None
    if listed is None and type(value) is int and 1 <= value <= MAX_SEEDS:
        return value
    if (
        listed
        and all(type(seed) is int and 0 <= seed <= MAX_SEED for seed in listed)
        and len(set(listed)) == len(listed)
    ):
        return tuple(listed)
    raise ValueError(f"neither a number from 1 to {MAX_SEEDS} nor a list of different seeds, none over {MAX_SEED}")


Seeds = Annotated[int | tuple[int, ...], BeforeValidator(_seeds)]


class VariantSettings(BaseModel, frozen=True, extra="forbid"):
    """One row of the table."""

    name: str = Field(min_length=1, max_length=60, description="As the table shows it.")
    select: dict[str, Any] = Field(default={}, description="Settings of `select` that make the variant.")
    segment: dict[str, Any] = Field(default={}, description="Settings of `train-seg`, where one follows.")
    seeds: Seeds | None = Field(default=None, description="Seeds of this variant alone.")
    masks: Literal["all", "point"] = Field(
        default="all", description="Masks that it sees: the whole bag, or those of the point prompt alone."
    )


class AblateSettings(SceneSettings, frozen=True, extra="forbid"):
    """Settings of `ablate`; `seed` is the first of the seeds, where only their number is given."""

    title: str = Field(default="", description="Heading of the table.")
    seeds: Annotated[Seeds, FLAG] = Field(
        default=5, description="How many seeds, from --seed on; in a file also a list of them."
    )
    sets: Annotated[int, FLAG] = Field(
        default=0,
        ge=0,
        le=len(NEW_STYLES),
        description="With --demo: so many sets of scenes by other generators, on which nothing was tuned, in place of "
        "the demo's.",
    )
    compare: Literal["first", "previous"] = Field(default="first", description="Row that a row is compared with.")
    select_preset: Annotated[str, FLAG, Presets(SELECT_PRESETS)] = Field(
        default="", description="Preset of `select`; else demo with --demo, and coco-1x."
    )
    segment_preset: Annotated[str, FLAG, Presets(SEGMENT_PRESETS)] = Field(
        default="", description="Preset of the `train-seg` that follows; none follows if there is none."
    )
    select: dict[str, Any] = Field(default={}, description="Settings of `select` that all variants share.")
    segment: dict[str, Any] = Field(default={}, description="Settings of `train-seg` that all variants share.")
    parallel: int = Field(default=0, ge=0, le=256, description="Trainings at once; 0: one per GPU, or per two cores.")
    variants: tuple[VariantSettings, ...] = Field(default=(), description="The rows.")

    @field_validator("variants")
    @classmethod
    def _rows_are_distinct(cls, variants: tuple[VariantSettings, ...]) -> tuple[VariantSettings, ...]:
        names = [variant.name for variant in variants]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"two variants are called {twice!r}")
        return variants
