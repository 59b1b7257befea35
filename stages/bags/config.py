"""Settings of `generate-bags`."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, Field, ValidationInfo, field_validator

from sapnet_pipe.stages.flags import DEPTH_FLAG, FLAG, DepthText, Device, Flag, MaxFailureRate, UnusedSeed

SamName = Literal["tiny", "vit_b", "vit_l", "vit_h"]
RecipeName = Literal["multimask", "refined", "centred"]


class SamConfig(BaseModel, frozen=True, extra="forbid"):
    """Which SAM makes the masks, and what it is asked."""

    sam: Annotated[SamName, FLAG] = Field(
        default="vit_h",
        description="SAM's architecture. vit_h: the paper's, 2.6 GB of weights; vit_l: 1.2 GB; vit_b: the fastest, "
        "375 MB; tiny: the demo's, for rendered scenes only.",
    )
    checkpoint: Annotated[Path | None, FLAG] = Field(
        default=None, description="Weights file; without it the official one, downloaded once."
    )
    recipe: Annotated[RecipeName, FLAG] = Field(
        default="refined",
        description="multimask: SAM's 3 masks of the point; refined: up to 3 more, from point and box; centred: with "
        "the innermost point of each mask in place of the click, for clicks away from the middle.",
    )


class BagsConfig(SamConfig, frozen=True, extra="forbid"):
    """What decides bits is part of the store's fingerprint; where and in which order they are made is not."""

    fast: Annotated[bool, Flag("--fast/--exact")] = Field(
        default=False, description="The fast path, equal except for rounding; else SamPredictor's bits."
    )
    precision: Annotated[Literal["float32", "bfloat16", "float16"] | None, FLAG] = Field(
        default=None, description="Precision of the encoder: float32, or with --fast bfloat16; others need --fast."
    )
    depth: Annotated[DepthText, DEPTH_FLAG] = Field(
        default="auto",
        description="What becomes 0 and 255 of photographs of more than 8 bits a channel. auto: the ends of the bits "
        "that the set uses, of floats 0 and 1; full: those of their type; percentile: the 0.1st and 99.9th of each.",
    )
    encode_batch: int | None = Field(
        default=None,
        ge=1,
        le=256,
        description="Images encoded at once on the fast path; as suits the device if not given.",
    )
    compile: bool = Field(default=False, description="torch.compile the fast path's encoder; for GPUs.")
    features: Annotated[bool, FLAG] = Field(
        default=False, description="Also keep SAM's image features, averaged over each mask."
    )
    shard_images: int = Field(
        default=64,
        ge=1,
        le=100_000,
        description="Images per shard: what a killed Ray worker costs; without Ray a kill costs a minute.",
    )
    max_failure_rate: MaxFailureRate = 0.0
    retry_failed: Annotated[bool, FLAG] = Field(
        default=False, description="Try the images again that could not be read before."
    )
    ray: Annotated[str | None, FLAG] = Field(
        default=None, description="auto or the address of a Ray cluster: many devices and machines."
    )
    workers: int | None = Field(
        default=None,
        ge=1,
        le=1024,
        description="Ray workers; one for each GPU, or as many as the cores hold, if not given.",
    )
    part: str = Field(default="1/1", description="K/N: make the K-th of N parts of the store; bags merge joins them.")
    device: Device = "auto"
    seed: UnusedSeed = 0

    @field_validator("precision")
    @classmethod
    def _exact_is_float32(cls, precision: str | None, others: ValidationInfo) -> str | None:
        if precision not in (None, "float32") and not others.data.get("fast"):
            raise ValueError("but the exact path is float32; add --fast")
        return precision

    @property
    def arithmetic(self) -> str:
        """The precision, resolved."""
        return self.precision or ("bfloat16" if self.fast else "float32")
