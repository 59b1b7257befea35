"""`sapnet-pipe ablate` and `sapnet-pipe report`: variants of the selector over one bag store, and their tables."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from sapnet_pipe.pipeline.ablate.plan import bundled_presets, make_plan
from sapnet_pipe.pipeline.ablate.settings import AblateSettings
from sapnet_pipe.pipeline.inputs import Draw, Inputs, LocalPath, Truth, ValImages, ValLabels
from sapnet_pipe.pipeline.outputs import require_new_folder
from sapnet_pipe.pipeline.report import Report
from sapnet_pipe.pipeline.settings import Presets
from sapnet_pipe.stages.flags import Flag
from sapnet_pipe.stages.select.frozen.config import FrozenConfig

_BUNDLED = bundled_presets()
_TITLES = tuple((name, str(preset["title"])) for name, preset in _BUNDLED.items())


class AblateInputs(Inputs, frozen=True, extra="forbid"):
    """What `ablate` takes: a store with its photographs, or `demo`, which makes them."""

    out: LocalPath = Field(description="Folder of the runs and tables.")
    bags: str | None = Field(default=None, description="Bag store of stage one: a folder or URL.")
    images: Path | None = Field(default=None, description="Folder of the photographs.")
    truth: Truth = None
    demo: bool = Field(default=False, description="Render the demo's scenes and make their bags first, in --out.")
    preset: Annotated[str | None, Presets(_BUNDLED, _TITLES)] = Field(
        default=None, description="An ablation that is bundled."
    )
    frozen: bool = Field(default=False, description=FrozenConfig.model_fields["enabled"].description)
    only: tuple[str, ...] = Field(default=(), description="Only this variant; may be repeated.")
    val_labels: ValLabels = None
    val_images: ValImages = None
    draw: Draw = None
    config: Path | None = Field(default=None, description="TOML file that lists variants and seeds.")
    assign: Annotated[tuple[str, ...], Flag("--set", metavar="KEY=VALUE")] = Field(
        default=(), description="Any setting, e.g. select.train.lr=0.01; may be repeated."
    )


class ReportInputs(Inputs, frozen=True, extra="forbid"):
    """What `report` takes."""

    run: Path = Field(description="Folder of ablate.")


def ablate(inputs: AblateInputs, settings: AblateSettings) -> Report:
    """Train every variant that is not there yet, with every seed, and write the tables."""
    if inputs.draw is not None:
        require_new_folder(inputs.draw, "--draw")
    plan = make_plan(
        settings, preset=inputs.preset, file=inputs.config, only=inputs.only, demo=inputs.demo, frozen=inputs.frozen
    )
    from sapnet_pipe.pipeline.ablate.run import run_ablation

    return run_ablation(
        plan,
        inputs.out,
        bags=inputs.bags,
        images=inputs.images,
        truth=inputs.truth,
        val_labels=inputs.val_labels,
        val_images=inputs.val_images,
        demo=inputs.demo,
        draw=inputs.draw,
        quiet=inputs.quiet,
    )


def report(inputs: ReportInputs) -> Report:
    """Make the tables again from the runs that are finished; nothing is trained."""
    from sapnet_pipe.pipeline.ablate.run import report_ablations

    return report_ablations(inputs.run)
