"""The backbone of a finished selector, to start another training from: the paper trains both over one.

``backbone.weights`` names the run folder of `select`. Trunk and pyramid are taken; a pyramid of other channels or
another normalisation stays random, and a note says so.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError
from torch import Tensor, nn

from sapnet_pipe.data.errors import UserError
from sapnet_pipe.data.files import read_json
from sapnet_pipe.stages.training.backbone_config import BackboneConfig
from sapnet_pipe.stages.training.checkpoint import load_checkpoint
from sapnet_pipe.stages.training.run_files import BACKBONE, CHECKPOINT, MANIFEST

_TRUNK, _PYRAMID = "backbone.trunk.", "backbone.fpn."
_HINT = "Give the --out folder of a finished select, or a file of weights"


@dataclass(frozen=True)
class SelectorBackbone:
    """What a run of `select` ended with.

    Attributes:
        config: Its backbone, every ``auto`` resolved.
        trunk, pyramid: Their state dicts.
    """

    folder: Path
    config: BackboneConfig
    trunk: dict[str, Tensor]
    pyramid: dict[str, Tensor]


def is_run_folder(weights: str) -> bool:
    """Whether ``backbone.weights`` names a folder."""
    return Path(weights).is_dir()


def selector_config(folder: Path, wanted: BackboneConfig) -> BackboneConfig:
    """The backbone of a run of `select`, resolved, which has the same trunk as the network that is `wanted`.

    Raises: UserError if the folder is none of a finished `select` that trained a backbone, or of another trunk.
    """
    manifest = read_json(folder / MANIFEST)
    command, status = (manifest.get(key) if isinstance(manifest, dict) else None for key in ("command", "status"))
    if command != "select":
        raise UserError(folder / MANIFEST, "command", command, "so this is no run of select", _HINT)
    if status != "complete":
        hint = "Finish it with the same command and --resume"
        raise UserError(folder / MANIFEST, "status", status, "so that run is not finished", hint)
    if not (folder / BACKBONE).is_file():
        problem = "so that run has trained no backbone"
        raise UserError(folder / BACKBONE, "file", "missing", problem, "Give a run of sapnet without --frozen")
    config = _config(folder / BACKBONE)
    for name in ("name", "width"):
        found = getattr(config, name)
        if getattr(wanted, name) != found:
            hint = f"Set backbone.{name}={found}"
            problem = f"but the selector in {folder} has {found}"
            raise UserError("settings", f"backbone.{name}", getattr(wanted, name), problem, hint)
    return config


def read_selector_backbone(folder: Path, wanted: BackboneConfig) -> SelectorBackbone:
    """Read the weights of that backbone as well. Raises: UserError as `selector_config`, and for a bad checkpoint."""
    config = selector_config(folder, wanted)
    state = load_checkpoint(folder / CHECKPOINT).model
    trunk, pyramid = (_inside(state, prefix) for prefix in (_TRUNK, _PYRAMID))
    if not trunk:
        problem = "not among its weights: it trained heads alone"
        raise UserError(folder / CHECKPOINT, "model", "backbone", problem, "Give a run without --frozen")
    return SelectorBackbone(folder, config, trunk, pyramid)


def load_pyramid(pyramid: nn.Module, source: SelectorBackbone) -> bool:
    """Fill the feature pyramid, if it is of the same kind. Returns: whether it is."""
    expected = pyramid.state_dict()
    same = expected.keys() == source.pyramid.keys()
    if not same or any(source.pyramid[key].shape != tensor.shape for key, tensor in expected.items()):
        return False
    pyramid.load_state_dict(source.pyramid)
    return True


def _config(file: Path) -> BackboneConfig:
    try:
        return BackboneConfig.model_validate(read_json(file))
    except ValidationError as error:
        fault = error.errors()[0]
        field = ".".join(map(str, fault["loc"])) or "content"
        raise UserError(file, field, fault["input"], fault["msg"], _HINT) from error


def _inside(state: dict[str, Any], prefix: str) -> dict[str, Tensor]:
    names = [name for name in state if name.startswith(prefix)]
    return {name.removeprefix(prefix): cast(Tensor, state[name]) for name in names}
