"""Writing backbones as Detectron2's .pkl files have them."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch

_LAYERS = {"shortcut": "branch1", "conv1": "branch2a", "conv2": "branch2b", "conv3": "branch2c"}


def caffe2_names(state: dict[str, torch.Tensor], affine: bool = False) -> dict[str, np.ndarray]:
    """Names as the MSRA files have them; `affine` leaves the statistics out, as Detectron's models do."""
    tensors = {"weight": "s", "bias": "b"} if affine else {"weight": "gamma", "bias": "beta"}
    arrays = {}
    for key, value in state.items():
        stage, *rest = key.split(".")
        head = "res_conv1_bn" if stage == "stem" else f"{stage}_{rest[0]}_{_LAYERS[rest[1]]}_bn"
        if ".norm.running" in key and affine:
            continue
        if ".norm." in key:
            arrays[f"{head}_{tensors.get(rest[-1], rest[-1])}"] = value.numpy()
        else:
            arrays["conv1_w" if stage == "stem" else f"{head.removesuffix('_bn')}_w"] = value.numpy()
    return {**arrays, "fc1000_w": np.zeros((10, 4), np.float32)}


def pickled(path: Path, content: Any, protocol: int = 2) -> str:
    """Write the pickle; returns its path as a setting."""
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    return str(path)
