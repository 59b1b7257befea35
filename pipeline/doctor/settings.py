"""Settings of `doctor`."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field


class DoctorSettings(BaseModel, frozen=True, extra="forbid"):
    """What stage one is to be estimated for, and how closely photographs are looked at."""

    sam: Literal["tiny", "vit_b", "vit_l", "vit_h"] = Field(default="vit_h", description="SAM architecture.")
    checkpoint: Path | None = Field(default=None, description="Weights file; without it the official one.")
    recipe: Literal["multimask", "refined"] = Field(default="refined", description="As for generate-bags.")
    device: str = Field(default="auto", description="Whose speed the estimate takes: auto, cpu, cuda, cuda:N or mps.")
    seed: int = Field(default=0, ge=0, description="Accepted by every command; this one draws nothing at random.")
    decode: int = Field(default=500, ge=0, description="Photographs of a file that are decoded; the others are opened.")
