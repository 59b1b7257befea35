"""ResNet + FPN for both networks, from torchvision's parts and weights."""

import posixpath
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch
from torch import Tensor, nn
from torchvision.models import get_model_weights
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from sapnet_pipe.data.errors import UserError
from sapnet_pipe.data.files import atomic_path, sha256_file
from sapnet_pipe.stages.training.backbone_config import (
    STRIDES,
    BackboneConfig,
    FpnNormName,
    NormName,
    ResNetName,
)
from sapnet_pipe.stages.training.checkpoint import load_tensors
from sapnet_pipe.stages.training.resnet import ResNetTrunk, group_norm

# Of torchvision's IMAGENET1K_V1 files, whose names hold the first eight digits.
_IMAGENET_SHA256 = {
    "resnet18": "f37072fd47e89c5e827621c5baffa7500819f7896bbacec160b1a16c560e07ec",
    "resnet34": "b627a593bcbe140c234610266fe4f8ae95ea42fc881d091c9b6052e6b1d0590f",
    "resnet50": "0676ba61b6795bbe1773cffd859882e5e297624d384b6993f7c9e683e722fb8a",
    "resnet101": "63fe2227b86e8f1f2063f43a75c84d195911b6a0eace650907dd3dc62dd49a0a",
}


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


def resolve_auto(config: BackboneConfig, *, has_weights: bool) -> BackboneConfig:
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
        load: False where a checkpoint follows: nothing is read or downloaded. `config` must hold no ``auto`` then.
    Returns: the network, and the settings with every ``auto`` replaced.
    Raises: UserError as `build_resnet_fpn`.
    """
    if config.weights != "auto":
        resolved = resolve_auto(config, has_weights=config.weights != "none")
        return _build(resolved, load), resolved
    resolved = resolve_auto(config, has_weights=True)
    try:
        return _build(resolved, load), resolved
    except UserError as error:
        warn(f"{error} Going on with random weights, norm gn, nothing frozen.")
        resolved = resolve_auto(config.model_copy(update={"norm": "gn", "freeze_stages": 0}), has_weights=False)
        return _build(resolved, load), resolved


def _build(config: BackboneConfig, load: bool) -> ResNetFpn:
    if config.norm == "auto":
        raise ValueError("the auto settings of a backbone must be resolved before it is built")
    return build_resnet_fpn(
        config.name,
        fpn_channels=config.fpn_channels,
        fpn_norm=config.fpn_norm,
        norm=config.norm,
        width=config.width,
        freeze_stages=config.freeze_stages,
        weights=config.weights if load else None,
    )


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
    if weights == "imagenet":
        load_trunk(trunk, _imagenet_state(name, width), f"imagenet weights of {name}")
    elif weights not in (None, "none"):
        content = load_tensors(Path(weights))
        load_trunk(trunk, content.get("model", content.get("state_dict", content)), weights)
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
    hint = "Give the path of a torchvision weight file as backbone.weights, or none for random weights"
    if name == "resnet10" or width != 64:
        problem = f"but there are none for {name} of width {width}"
        raise UserError("settings", "backbone.weights", "imagenet", problem, hint)
    weights = get_model_weights(name)["IMAGENET1K_V1"]
    path = Path(torch.hub.get_dir()) / "checkpoints" / posixpath.basename(weights.url)
    if not path.is_file():
        try:
            with atomic_path(path) as temporary:
                torch.hub.download_url_to_file(weights.url, str(temporary), progress=False)
        except (URLError, OSError, RuntimeError) as error:
            problem = f"which could not be downloaded from {weights.url} ({error})"
            raise UserError("settings", "backbone.weights", "imagenet", problem, hint) from error
    refuse_other_bytes(path, _IMAGENET_SHA256[name])
    return load_tensors(path)


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
