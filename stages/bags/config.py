"""Settings of `generate-bags`."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field


class BagsConfig(BaseModel, frozen=True, extra="forbid"):
    """Every setting but the part, the device and the seed is part of the store's fingerprint."""

    sam: Literal["tiny", "vit_b", "vit_l", "vit_h"] = Field(
        "vit_h", description="SAM architecture; tiny is the demo's, for rendered scenes only."
    )
    checkpoint: Path | None = Field(None, description="Weights file; without it the official one, downloaded once.")
    recipe: Literal["multimask", "refined"] = Field(
        "refined",
        description="multimask: SAM's 3 masks of the point; refined: up to 3 more, from point and box.",
    )
    shard_images: int = Field(64, ge=1, le=100_000, description="Images per shard: what an interruption can cost.")
    part: str = Field("1/1", description="K/N: make the K-th of N parts of the store; bags merge joins them.")
    device: str = Field("auto", description="auto, cpu, cuda, cuda:N or mps.")
    seed: int = Field(0, ge=0, description="Accepted by every command; this one draws nothing at random.")
