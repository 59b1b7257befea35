"""Settings of the training on frozen features."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from sapnet_pipe.stages.flags import Flag


class FrozenConfig(BaseModel, frozen=True, extra="forbid"):
    """Screening: features are computed once, and the heads alone are trained."""

    enabled: Annotated[bool, Flag("--frozen")] = Field(
        default=False, description="Screening: features once, then the heads alone, in seconds."
    )
    features: Literal["auto", "backbone", "sam"] = Field(
        default="auto", description="Of the backbone, or SAM's of a store made with --features; auto takes SAM's."
    )
    weights: str = Field(default="", description="Run folder of `select` whose backbone is taken; else as `backbone`.")
    cache: str = Field(default="", description="Folder for the features; else beside the store, or in the run folder.")
    grid: int = Field(default=32, ge=4, le=256, description="Cells that the map of a photograph has along a side.")
    bins: int = Field(default=3, ge=1, le=14, description="Parts of a box along a side, of which features are means.")
    negatives: int = Field(
        default=16, gt=0, le=1_000_000, description="Negatives of an image that go through the layers."
    )
    epochs: float = Field(default=4.0, gt=0, le=1e6, description="Passes over the images.")
    max_iterations: int = Field(
        default=0, ge=0, le=1_000_000_000, description="Steps; 0 takes the number of epochs instead."
    )
    batch_size: int = Field(default=16, gt=0, le=65_536, description="Images per step.")
    lr: float = Field(default=3e-3, gt=0, le=1000, description="Peak learning rate of AdamW.")
