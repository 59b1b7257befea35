"""ResNet + FPN for both networks, from torchvision's parts and weights."""

import logging
import posixpath
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast
from urllib.error import URLError

import torch
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from sapnet_pipe.data.errors import UserError
from sapnet_pipe.data.files import atomic_path, sha256_file
from sapnet_pipe.stages.training.backbone_config import (
    IMAGENET,
    IMAGENET_SHA256,
    STRIDES,
    BackboneConfig,
    FpnNormName,
    NormName,
    ResNetName,
    imagenet_url,
)
from sapnet_pipe.stages.training.checkpoint import load_tensors, unwrapped
from sapnet_pipe.stages.training.resnet import ResNetTrunk, group_norm
from sapnet_pipe.stages.training.selector_backbone import (
    is_run_folder,
    load_pyramid,
    read_selector_backbone,
    selector_config,
)

Config = TypeVar("Config", bound=BackboneConfig)
_LOG = logging.getLogger(__name__)


class ResNetFpn(nn.Module):
    """Trunk and feature pyramid.

    Attributes:
        out_channels: Channels of every level.
    """

    def __init__(self, trunk: ResNetTrunk, fpn_channels: int, fpn_norm: FpnNormName) -> None:
        super().__init__()
        self.trunk = trunk
        self.fpn = FeaturePyramidNetwork(
            trunk.channels,
            fpn_channels,
            extra_blocks=LastLevelMaxPool(),
            norm_layer=group_norm if fpn_norm == "gn" else None,
        )
        self.out_channels = fpn_channels

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Normalised images (B, 3, H, W), H and W multiples of 32, to {"p2": (B, C, H/4, W/4), ... "p6": .../64}."""
        features = OrderedDict(zip(STRIDES, self.trunk(images), strict=False))
        return dict(zip(STRIDES, self.fpn(features).values(), strict=True))


def resolve_auto(config: Config) -> Config:
    """Replace every ``auto`` by what it means with or without pretrained weights, or by what a selector had."""
    if config.norm != "auto" and config.freeze_stages >= 0:
        return config
    if is_run_folder(config.weights):
        source = selector_config(Path(config.weights), config)
        norm = config.norm if config.norm != "auto" else source.norm
        freeze = config.freeze_stages if config.freeze_stages >= 0 else source.freeze_stages
        return config.model_copy(update={"norm": norm, "freeze_stages": freeze})
    has_weights = config.weights != "none"
    norm = config.norm if config.norm != "auto" else ("frozen_bn" if has_weights else "gn")
    freeze = config.freeze_stages if config.freeze_stages >= 0 else (2 if has_weights else 0)
    return config.model_copy(update={"norm": norm, "freeze_stages": freeze})


def build_backbone(
    config: Config, *, load: bool = True, warn: Callable[[str], None] = _LOG.warning
) -> tuple[ResNetFpn, Config]:
    """Build the backbone that the settings ask for.

    Args:
        load: False where a checkpoint follows: nothing is read or downloaded.
        warn: Told what was taken of a selector's run.
    Returns: the network, and the settings with every ``auto`` replaced.
    Raises: UserError as `build_resnet_fpn`.
    """
    resolved = resolve_auto(config)
    from_run = load and is_run_folder(config.weights)
    network = build_resnet_fpn(
        resolved.name,
        fpn_channels=resolved.fpn_channels,
        fpn_norm=resolved.fpn_norm,
        norm=cast(NormName, resolved.norm),
        width=resolved.width,
        freeze_stages=resolved.freeze_stages,
        weights=resolved.weights if load and not from_run else None,
    )
    if from_run:
        source = read_selector_backbone(Path(config.weights), config)
        load_trunk(network.trunk, source.trunk, str(source.folder))
        whole = load_pyramid(network.fpn, source)
        taken = "trunk and pyramid" if whole else "trunk; its pyramid is of another kind and starts from random weights"
        same = f"backbone.fpn_channels={source.config.fpn_channels} and backbone.fpn_norm={source.config.fpn_norm}"
        warn(f"started from the selector's {taken}" + ("." if whole else f" (the same: {same})."))
    return network, resolved


def build_resnet_fpn(
    name: ResNetName,
    *,
    fpn_channels: int = 256,
    fpn_norm: FpnNormName = "none",
    norm: NormName = "frozen_bn",
    width: int = 64,
    freeze_stages: int = 0,
    weights: str | None = None,
) -> ResNetFpn:
    """Build the network and fill its trunk.

    Args:
        name: resnet10 (one basic block a stage), resnet18, resnet34, resnet50 or resnet101.
        width: Channels of the first stage; 64 is the standard network.
        freeze_stages: 0 none, 1 the stem, 2 the stem and the first stage, ...
        weights: ``imagenet`` (torchvision, downloaded once), a file with torchvision's key names or a selector's
            ``checkpoints/last.pt`` (whose backbone the paper shares with the segmenter), ``none`` (random), or None
            where a checkpoint is loaded next, which says nothing about how the network was trained.
    Raises: UserError for weights that cannot be had or do not fit, and for random weights that could never be
        trained (frozen stages or a frozen batch norm).
    """
    if weights == "none":
        refuse_untrainable(norm, freeze_stages)
    trunk = ResNetTrunk(name, norm, width)
    if weights == IMAGENET:
        load_trunk(trunk, _imagenet_state(name, width), f"imagenet weights of {name}")
    elif weights not in (None, "none"):
        load_trunk(trunk, unwrapped(load_tensors(Path(weights))), weights)
    trunk.freeze(freeze_stages)
    return ResNetFpn(trunk, fpn_channels, fpn_norm)


def refuse_untrainable(norm: NormName, freeze_stages: int) -> None:
    """Refuse settings under which random weights would stay random."""
    if norm == "frozen_bn":
        hint = "Set backbone.norm to gn (or bn), or give weights"
        raise UserError("settings", "backbone.norm", norm, "which cannot train from random weights", hint)
    if freeze_stages:
        hint = "Set backbone.freeze_stages to 0, or give weights"
        raise UserError("settings", "backbone.freeze_stages", freeze_stages, "which freezes random weights", hint)


def _imagenet_state(name: ResNetName, width: int) -> dict[str, Any]:
    if name not in IMAGENET_SHA256 or width != 64:
        problem = f"but there are none for {name} of width {width}"
        hint = "Give a weight file as backbone.weights, or none for random weights"
        raise UserError("settings", "backbone.weights", IMAGENET, problem, hint)
    url = imagenet_url(name)
    path = Path(torch.hub.get_dir()) / "checkpoints" / posixpath.basename(url)
    download_weights(url, path, IMAGENET)
    refuse_other_bytes(path, IMAGENET_SHA256[name])
    return load_tensors(path)


def download_weights(url: str, path: Path, setting: str) -> None:
    """Download once, for backbone.weights = `setting`. Raises: UserError with the ways out where that cannot be."""
    if path.is_file():
        return
    try:
        with atomic_path(path) as temporary:
            torch.hub.download_url_to_file(url, str(temporary), progress=False)
    except (URLError, OSError, RuntimeError) as error:
        problem = f"which could not be downloaded from {url} ({error})"
        hint = (
            f"Put that file at {path}, or give --set backbone.weights=FILE, or the run folder of a select with this "
            "backbone, or =none to train from random weights"
        )
        raise UserError("settings", "backbone.weights", setting, problem, hint) from error


def refuse_other_bytes(path: Path, sha256: str) -> None:
    """Raises: UserError if a file in a cache is not the published one."""
    found = sha256_file(path)
    if found != sha256:
        hint = "Move that file away: it is downloaded again"
        raise UserError(path, "sha256", found, f"but the published file has {sha256}", hint)


def _trunk_state(state: dict[str, Any]) -> dict[str, Any]:
    """Torchvision's names, also out of a whole network of ours."""
    prefix = "backbone.trunk."
    inside = {name.removeprefix(prefix): value for name, value in state.items() if str(name).startswith(prefix)}
    return inside or state


def load_trunk(trunk: ResNetTrunk, state: dict[str, Any], source: str) -> None:
    """Load torchvision's keys (without the classifier), also out of a whole network of ours.

    Raises: UserError, blaming `source`, unless every key of the trunk is there and fits.
    """
    state, expected = _trunk_state(state), trunk.state_dict()
    for key, tensor in expected.items():
        found = state.get(key)
        if key.endswith("num_batches_tracked") and found is None:
            continue
        if getattr(found, "shape", None) != tensor.shape:
            problem = "not there" if found is None else f"but this network needs {tuple(tensor.shape)}"
            value = None if found is None else tuple(getattr(found, "shape", ()))
            hint = "Give weights with torchvision's key names for this backbone, or another backbone"
            raise UserError(source, key, value, problem, hint)
    trunk.load_state_dict({k: v for k, v in state.items() if k in expected}, strict=False)
