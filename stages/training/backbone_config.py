"""Settings of the backbone, and the names that stand in them."""

from typing import Literal

from pydantic import BaseModel, Field

ResNetName = Literal["resnet10", "resnet18", "resnet34", "resnet50", "resnet101"]
NormName = Literal["frozen_bn", "bn", "gn"]
FpnNormName = Literal["none", "gn"]
STRIDES = {"p2": 4, "p3": 8, "p4": 16, "p5": 32, "p6": 64}


class BackboneConfig(BaseModel, frozen=True, extra="forbid"):
    """ResNet + FPN."""

    name: ResNetName = Field(default="resnet50", description="Depth of the trunk.")
    # Of 8 channels, oneDNN's gradient of a strided 1x1 convolution writes past its buffer (torch 2.14, two threads).
    width: int = Field(
        default=64, multiple_of=16, gt=0, le=256, description="Channels of the stem; 64 is the standard network."
    )
    weights: str = Field(
        default="auto",
        min_length=1,
        description="imagenet (downloaded once), a file with torchvision's key names, none (random), or auto: "
        "imagenet where it can be had, else none.",
    )
    norm: Literal["auto", NormName] = Field(
        default="auto", description="Normalisation of the trunk; auto is frozen_bn with weights, gn without."
    )
    freeze_stages: int = Field(
        default=-1,
        ge=-1,
        le=5,
        description="Frozen: 0 nothing, 1 stem, 2 stem and first stage, ...; -1 is 2 with weights, else 0.",
    )
    fpn_channels: int = Field(default=256, ge=8, le=1024, description="Channels of every pyramid level.")
    fpn_norm: FpnNormName = Field(default="gn", description="Normalisation of the pyramid.")
