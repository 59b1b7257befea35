"""Settings of the commands that are no stage.

Every command takes ``device`` and ``seed``, so that a script can pass the same options to all of them.
"""

from pydantic import BaseModel, Field


class PlainSettings(BaseModel, frozen=True, extra="forbid"):
    """What every command accepts."""

    device: str = Field(default="auto", description="auto, cpu, cuda, cuda:N or mps, for commands with a network.")
    seed: int = Field(default=0, ge=0, description="Seed of random draws, for commands that draw any.")


class PointsSettings(PlainSettings, frozen=True, extra="forbid"):
    """Settings of `points`."""

    strategy: str = Field(default="quasi-center", description="quasi-center, center or uniform.")


class PredictSettings(PlainSettings, frozen=True, extra="forbid"):
    """Settings of `predict`; what is None is as the model was trained."""

    score_threshold: float | None = Field(default=None, ge=0, le=1, description="Score that an instance needs.")
    max_per_image: int | None = Field(default=None, gt=0, description="Instances of one photograph.")
    batch_size: int | None = Field(default=None, gt=0, description="Photographs per forward pass.")
    draw_score: float = Field(default=0.3, ge=0, le=1, description="Score that an instance needs to be drawn.")


class SceneSettings(PlainSettings, frozen=True, extra="forbid"):
    """How much is rendered."""

    train_scenes: int = Field(default=240, ge=1, le=100_000, description="Scenes with points, for stages one to three.")
    test_scenes: int = Field(default=80, ge=1, le=100_000, description="Unseen scenes, for the segmenters' AP.")


class DemoSettings(SceneSettings, frozen=True, extra="forbid"):
    """Settings of `demo`: how much it renders and trains."""

    pictures: int = Field(default=16, ge=0, description="Scenes of either set to draw.")
    select_iterations: int | None = Field(default=None, gt=0, description="Of each selector; else the preset demo's.")
    segment_iterations: int | None = Field(default=None, gt=0, description="Of each SOLOv2; else the preset demo's.")


class ImportSettings(PlainSettings, frozen=True, extra="forbid"):
    """Settings of `bags import`; a key that is None is found by what stands in the file."""

    shard_images: int = Field(default=64, ge=1, le=100_000, description="Images per shard.")
    masks_key: str | None = Field(default=None, description="Name of an annotation's list of masks.")
    boxes_key: str | None = Field(default=None, description="Name of an annotation's list of boxes.")
    scores_key: str | None = Field(default=None, description="Name of an annotation's list of scores.")
