"""A trained segmenter as one file: weights under Detectron2's names, and all that is needed to use them."""

from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ValidationError

from sapnet_pipe.data.coco.instances import Category
from sapnet_pipe.data.errors import UserError
from sapnet_pipe.data.files import read_json, write_json
from sapnet_pipe.stages.flags import DepthText
from sapnet_pipe.stages.segment.config import HeadConfig, InferenceConfig, SegmentBackboneConfig
from sapnet_pipe.stages.segment.network import build_solov2
from sapnet_pipe.stages.segment.pixel_format import DETECTRON2_PIXELS, PixelFormat
from sapnet_pipe.stages.segment.solov2.model import SOLOv2
from sapnet_pipe.stages.segment.weights.checkpoint_keys import from_detectron2, to_detectron2
from sapnet_pipe.stages.training.checkpoint import load_tensors, load_weights, save_tensors

DESCRIPTION_KEY = "sapnet_pipe"
_HINT = "Give a run folder of train-seg, or its model_final.pth"


class ModelDescription(BaseModel, frozen=True, extra="forbid"):
    """How to build the network, what its classes are, and how to decode its predictions.

    Attributes:
        categories: In the order of the class indices.
        backbone: Resolved, without any ``auto``.
        pixels: How the first convolution in the file wants its pixels. Only files know it: what `load_model` returns
            sees the normalised RGB of `batch_images`, whichever engine trained it.
        depth: How the training's photographs of more than 8 bits a channel were scaled.
    """

    categories: tuple[Category, ...]
    backbone: SegmentBackboneConfig
    head: HeadConfig
    test: InferenceConfig
    pixels: PixelFormat = DETECTRON2_PIXELS
    depth: DepthText = "auto"

    def build(self) -> SOLOv2:
        """The network with random weights."""
        return build_solov2(self.backbone, self.head, len(self.categories), warn=_unheard, load=False)[0]


def save_model(path: Path, model: SOLOv2, description: ModelDescription) -> None:
    """Write ``{"model": state dict as Detectron2 has it, "sapnet_pipe": description}`` atomically."""
    state = to_detectron2(model.state_dict(), description.pixels)
    save_tensors(path, {"model": state, DESCRIPTION_KEY: description.model_dump(mode="json")})


def load_model(path: Path) -> tuple[SOLOv2, ModelDescription]:
    """Read a file that `save_model` wrote, with no code in it run.

    Raises: UserError if the file is missing, damaged, or not of this kind.
    """
    content = load_tensors(path)
    if DESCRIPTION_KEY not in content or not isinstance(content.get("model"), dict):
        raise UserError(path, DESCRIPTION_KEY, sorted(map(str, content))[:5], "not a segmenter of this program", _HINT)
    description = _described(content[DESCRIPTION_KEY], path)
    model = description.build()
    load_weights(model, _completed(model, _ours(content["model"], description.pixels, path)), path)
    return model, description


def load_initial_weights(model: SOLOv2, path: Path, *, stride_in_1x1: bool | None = None) -> list[str]:
    """Fill a network from a SOLOv2 checkpoint, ours or AdelaiDet's, whose classes may be others.

    Args:
        stride_in_1x1: Where this network's bottlenecks have their stride: it must be where a checkpoint of ours has
            it, since the weights themselves do not show it. Others do not say.
    Returns: the keys that keep their initial values because the classes differ in number.
    Raises: UserError if anything else does not fit.
    """
    content = load_tensors(path)
    found = content.get("model", content)
    if not isinstance(found, dict) or not all(isinstance(value, torch.Tensor) for value in found.values()):
        raise UserError(path, "model", type(found).__name__, "not a state dict", "Give a SOLOv2 checkpoint")
    description = _described(content[DESCRIPTION_KEY], path) if DESCRIPTION_KEY in content else None
    if description is not None and stride_in_1x1 is not None:
        _require_stride(description.backbone.stride_in_1x1, stride_in_1x1, path)
    pixels = DETECTRON2_PIXELS if description is None else description.pixels
    state = _completed(model, _ours(found, pixels, path))
    expected = model.state_dict()
    classes = [key for key in expected if key.startswith("ins_head.cate_pred.")]
    others = [key for key in classes if key in state and state[key].shape != expected[key].shape]
    load_weights(model, {**state, **{key: expected[key] for key in others}}, path)
    return others


def write_description(path: Path, description: ModelDescription) -> None:
    """Write the description as JSON, for a training that is resumed later."""
    write_json(path, description.model_dump(mode="json"), indent=2)


def read_description(path: Path) -> ModelDescription:
    """Read what `write_description` wrote; UserError if it is damaged."""
    return _described(read_json(path), path)


def _described(value: Any, path: Path) -> ModelDescription:
    try:
        return ModelDescription.model_validate(value)
    except ValidationError as error:
        fault = error.errors()[0]
        field = ".".join(str(part) for part in fault["loc"]) or "content"
        raise UserError(path, field, fault["input"], fault["msg"], _HINT) from error


def _require_stride(found: bool, wanted: bool, path: Path) -> None:
    if found != wanted:
        hint = f"Set backbone.stride_in_1x1={str(found).lower()}"
        problem = f"but {path} was trained with {str(found).lower()}"
        raise UserError("settings", "backbone.stride_in_1x1", str(wanted).lower(), problem, hint)


def _ours(state: dict[str, Any], pixels: PixelFormat, path: Path) -> dict[str, Any]:
    try:
        return from_detectron2(state, pixels)
    except ValueError as error:
        hint = "Give a checkpoint that was trained with ImageNet's mean"
        raise UserError(path, "pixels.mean", pixels.mean, str(error), hint) from error


def _completed(model: SOLOv2, state: dict[str, Any]) -> dict[str, Any]:
    """Add the counters of batch norms, which Detectron2's files do not have and inference does not need."""
    counters = {k: v for k, v in model.state_dict().items() if k.endswith("num_batches_tracked")}
    return {**counters, **state}


def _unheard(line: str) -> None:
    """Nothing is read here, so there is nothing to warn of."""
