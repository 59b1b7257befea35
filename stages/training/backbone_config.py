"""Settings of the backbone, and the names that stand in them."""

from typing import Literal

from pydantic import BaseModel, Field, field_validator

ResNetName = Literal["resnet10", "resnet18", "resnet34", "resnet50", "resnet101"]
NormName = Literal["frozen_bn", "bn", "gn"]
FpnNormName = Literal["none", "gn"]
IMAGENET = "imagenet"
# Of torchvision's IMAGENET1K_V1 files, whose names hold the first eight digits.
IMAGENET_SHA256: dict[ResNetName, str] = {
    "resnet18": "f37072fd47e89c5e827621c5baffa7500819f7896bbacec160b1a16c560e07ec",
    "resnet34": "b627a593bcbe140c234610266fe4f8ae95ea42fc881d091c9b6052e6b1d0590f",
    "resnet50": "0676ba61b6795bbe1773cffd859882e5e297624d384b6993f7c9e683e722fb8a",
    "resnet101": "63fe2227b86e8f1f2063f43a75c84d195911b6a0eace650907dd3dc62dd49a0a",
}
STRIDES = {"p2": 4, "p3": 8, "p4": 16, "p5": 32, "p6": 64}


def imagenet_url(name: ResNetName) -> str:
    """Where torchvision publishes its weights; the cache of torch has them under the same file name."""
    return f"https://download.pytorch.org/models/{name}-{IMAGENET_SHA256[name][:8]}.pth"


class BackboneConfig(BaseModel, frozen=True, extra="forbid"):
    """ResNet + FPN."""

    name: ResNetName = Field(default="resnet50", description="Depth of the trunk.")
    # Of 8 channels, oneDNN's gradient of a strided 1x1 convolution writes past its buffer (torch 2.14, two threads).
    width: int = Field(
        default=64, multiple_of=16, gt=0, le=256, description="Channels of the stem; 64 is the standard network."
    )
    weights: str = Field(
        default=IMAGENET,
        min_length=1,
        description="imagenet (downloaded once), a file with torchvision's key names, a run folder of select, or none "
        "(random).",
    )
    norm: Literal["auto", NormName] = Field(
        default="auto",
        description="Normalisation of the trunk; auto: frozen_bn with weights, gn without, a run's own.",
    )
    freeze_stages: int = Field(
        default=-1,
        ge=-1,
        le=5,
        description="Frozen: 0 nothing, 1 stem, 2 stem and first stage, ...; -1 is 2 with weights, else 0.",
    )
    fpn_channels: int = Field(default=256, ge=8, le=1024, description="Channels of every pyramid level.")
    fpn_norm: FpnNormName = Field(default="gn", description="Normalisation of the pyramid.")

    @field_validator("weights")
    @classmethod
    def _never_by_chance(cls, weights: str) -> str:
        # "auto" is of earlier versions, which took random weights where they had no network.
        return IMAGENET if weights == "auto" else weights
