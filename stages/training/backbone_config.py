"""Settings of the backbone, and how ``auto`` is settled: pretrained and partly frozen, or random and trained whole."""

from collections.abc import Callable
from typing import Literal

from pydantic import BaseModel, Field

from sapnet_pipe.data.errors import UserError
from sapnet_pipe.stages.training.backbone import FpnNormName, ResNetFpn, build_resnet_fpn
from sapnet_pipe.stages.training.resnet import ResNetName


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
    norm: Literal["auto", "frozen_bn", "bn", "gn"] = Field(
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


def settle(config: BackboneConfig, *, has_weights: bool) -> BackboneConfig:
    """Replace every ``auto`` by what it means with or without pretrained weights."""
    norm = config.norm if config.norm != "auto" else ("frozen_bn" if has_weights else "gn")
    freeze = config.freeze_stages if config.freeze_stages >= 0 else (2 if has_weights else 0)
    weights = config.weights if config.weights != "auto" else ("imagenet" if has_weights else "none")
    return config.model_copy(update={"norm": norm, "freeze_stages": freeze, "weights": weights})


def build_backbone(
    config: BackboneConfig, *, warn: Callable[[str], None], load: bool = True
) -> tuple[ResNetFpn, BackboneConfig]:
    """Build the backbone that the settings ask for.

    Args:
        warn: Told, in one line, when ``auto`` had to fall back to random weights.
        load: False where a checkpoint follows: nothing is read or downloaded. `config` must be settled then.
    Returns: the network, and the settings with every ``auto`` replaced.
    Raises: UserError as `build_resnet_fpn`.
    """
    if config.weights != "auto":
        settled = settle(config, has_weights=config.weights != "none")
        return _build(settled, load), settled
    settled = settle(config, has_weights=True)
    try:
        return _build(settled, load), settled
    except UserError as error:
        warn(f"{error} Going on with random weights, norm gn, nothing frozen.")
        settled = settle(config.model_copy(update={"norm": "gn", "freeze_stages": 0}), has_weights=False)
        return _build(settled, load), settled


def _build(config: BackboneConfig, load: bool) -> ResNetFpn:
    if config.norm == "auto":
        raise ValueError("the settings of a backbone must be settled before it is built")
    return build_resnet_fpn(
        config.name,
        fpn_channels=config.fpn_channels,
        fpn_norm=config.fpn_norm,
        norm=config.norm,
        width=config.width,
        freeze_stages=config.freeze_stages,
        weights=config.weights if load else None,
    )
