"""How much the demo renders and trains."""

from typing import Annotated

from pydantic import Field

from sapnet_pipe.pipeline.inputs import PlainSettings
from sapnet_pipe.stages.flags import FLAG, Device, Seed


class SceneSettings(PlainSettings, frozen=True, extra="forbid"):
    """How much is rendered."""

    device: Device = "auto"
    seed: Seed = 0
    train_scenes: int = Field(default=240, ge=1, le=100_000, description="Scenes with points, for stages one to three.")
    test_scenes: int = Field(default=80, ge=1, le=100_000, description="Unseen scenes, for the segmenters' AP.")


class DemoSettings(SceneSettings, frozen=True, extra="forbid"):
    """Settings of `demo`."""

    full: Annotated[bool, FLAG] = Field(
        default=False, description="Also train single MIL, sapnet-plus, and SOLOv2 on the true masks."
    )
    pictures: int = Field(default=16, ge=0, le=1_000_000, description="Scenes of either set to draw.")
    select_iterations: int | None = Field(
        default=None, gt=0, le=1_000_000_000, description="Of each selector; else the preset demo's."
    )
    segment_iterations: int | None = Field(
        default=None, gt=0, le=1_000_000_000, description="Of each SOLOv2; else the preset demo's."
    )
