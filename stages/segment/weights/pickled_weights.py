"""Detectron2's ``.pkl`` backbones, read without running any code in them.

Two dialects: Caffe2's names (``res2_0_branch2a_w``: the MSRA ResNets and Detectron's models) and Detectron2's own names
(``res2.0.conv1.weight``: its model zoo, and torchvision's weights as its converter writes them).
"""

import io
import pickle
import pickletools
import re
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sapnet_pipe.data.errors import UserError
from sapnet_pipe.data.files import reading
from sapnet_pipe.stages.segment.pixel_format import DETECTRON2_PIXELS, OUR_PIXELS
from sapnet_pipe.stages.segment.weights.checkpoint_keys import from_detectron2
from sapnet_pipe.stages.training.backbone import download_weights

MSRA = "msra"
_MSRA_URL = "https://dl.fbaipublicfiles.com/detectron2/ImageNetPretrained/MSRA/{}.pkl"
_MSRA_NAMES = {"resnet50": "R-50", "resnet101": "R-101"}
_BOTTOM_UP = "backbone.bottom_up."
_HINT = "Give one of Detectron2's backbones (.pkl), a torchvision weight file, or none"
# An affine layer is a frozen batch norm of mean 0 and, with its eps, variance 1.
_BN_EPS = 1e-5


@dataclass(frozen=True)
class PickledBackbone:
    """Weights under our names (``backbone.trunk...``), for our pixels, and where their bottlenecks have the stride."""

    state: dict[str, Tensor]
    stride_in_1x1: bool


def is_pickled(weights: str) -> bool:
    """Whether a ``backbone.weights`` setting names weights in this form."""
    return weights == MSRA or weights.endswith(".pkl")


def read_pickled_backbone(weights: str, resnet: str) -> PickledBackbone:
    """Read a file, or with ``msra`` Detectron2's ImageNet weights for `resnet`, which are downloaded once.

    Raises: UserError if the file is missing, damaged, holds more than arrays, or cannot be downloaded.
    """
    path = _msra(resnet) if weights == MSRA else Path(weights)
    content = read_arrays(path, "Move that file away: it is downloaded again" if weights == MSRA else _HINT)
    caffe2 = "model" not in content or "__author__" not in content
    found = content.get("blobs", content) if caffe2 else content["model"]
    if not isinstance(found, dict):
        raise UserError(path, "model", type(found).__name__, "which is not a dictionary of arrays", _HINT)
    arrays = {
        str(key): value for key, value in found.items() if isinstance(value, np.ndarray) and value.dtype.kind in "fiu"
    }
    state = {
        _named(key, caffe2): torch.from_numpy(np.array(array, np.float32)) for key, array in sorted(arrays.items())
    }
    torchvision = content.get("__author__") == "torchvision"
    try:
        ours = from_detectron2(_with_statistics(state), OUR_PIXELS if torchvision else DETECTRON2_PIXELS)
    except ValueError as error:
        raise UserError(path, "stem.conv1.weight", "", str(error), _HINT) from error
    return PickledBackbone(ours, stride_in_1x1=not torchvision)


def read_arrays(path: Path, hint: str = _HINT) -> dict[Any, Any]:
    """A pickled dictionary of NumPy arrays, strings and numbers; anything else in it is refused, not run."""
    with reading(path):
        pickled = path.read_bytes()
        try:
            _refuse_claims(pickled)
            content = _ArraysOnly(io.BytesIO(pickled), encoding="latin1").load()
        except (MemoryError, OSError):
            raise
        except Exception as error:  # a damaged pickle may raise any
            problem = f"which is damaged, or holds more than arrays ({error})"
            raise UserError(path, "content", path.name, problem, hint) from error
    if not isinstance(content, dict):
        raise UserError(path, "content", type(content).__name__, "which is not a dictionary of arrays", hint)
    return _with_arrays(content)


def _refuse_claims(pickled: bytes) -> None:
    """Raise a ValueError where a pickle claims more than it holds, for which the unpickler would take the memory."""
    for operation, argument, _ in pickletools.genops(io.BytesIO(pickled)):  # which knows the lengths of strings
        number = argument if operation.name in _COUNTS else 0
        if isinstance(number, int) and number > len(pickled):
            raise ValueError(f"it speaks of {number} parts in {len(pickled)} bytes")


_COUNTS = {"PUT", "BINPUT", "LONG_BINPUT", "FRAME"}


class _ArraysOnly(pickle.Unpickler):
    """Knows stand-ins for what rebuilds arrays and numbers of NumPy, old and new, and nothing else.

    NumPy's own functions believe the pickle: a shape larger than its data, or objects, and they read foreign memory.
    """

    def find_class(self, module: str, name: str) -> Any:
        root, _, rest = module.partition(".")
        if root == "numpy" and (rest, name) in _NUMPY:
            return _NUMPY[rest, name]
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("_codecs", "encode"):
            return _encode
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")


def _encode(text: str, encoding: str) -> bytes:
    """How pickles of protocol 2 hold bytes."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it asks for the encoding {encoding}")
    return text.encode("latin1")


class _PlainType:
    """Stands for `numpy.dtype`: a plain number and its byte order."""

    def __init__(self, kind: str, *_: Any) -> None:
        if not re.fullmatch(r"[<>=|]?[biuf][1248]", str(kind)):
            raise pickle.UnpicklingError(f"it holds an array of {kind!r}, which are not plain numbers")
        self.plain = np.dtype(kind)

    def __setstate__(self, state: Any) -> None:
        _, order, *inner = state
        if any(part is not None for part in inner[:3]):
            raise pickle.UnpicklingError("it holds an array of records")
        self.plain = self.plain.newbyteorder(order)


class _PlainArray:
    """Stands for `numpy.ndarray` while its parts are read."""

    def __init__(self, *_: Any) -> None:
        self.array = np.zeros(0)

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, by_columns, data = state
        self.array = _array(data, kind, shape, "F" if by_columns else "C")


def _array(data: Any, kind: _PlainType, shape: Any, order: str) -> NDArray[Any]:
    content = data.encode("latin1") if isinstance(data, str) else bytes(data)
    return np.frombuffer(content, kind.plain).reshape(shape, order="F" if order == "F" else "C")


def _number(kind: _PlainType, data: Any) -> Any:
    return _array(data, kind, (), "C")[()]


_REBUILDERS = {
    ("multiarray", "_reconstruct"): _PlainArray,
    ("multiarray", "scalar"): _number,
    ("numeric", "_frombuffer"): _array,
}
_NUMPY: Mapping[tuple[str, str], Any] = {
    ("", "ndarray"): _PlainArray,
    ("", "dtype"): _PlainType,
    **{(f"{core}.{part}", name): f for core in ("core", "_core") for (part, name), f in _REBUILDERS.items()},
}


def _with_arrays(content: dict[Any, Any], depth: int = 2) -> dict[Any, Any]:
    """Dictionaries, of which the weights are at most the second, with arrays in place of their stand-ins."""
    read = {key: value.array if isinstance(value, _PlainArray) else value for key, value in content.items()}
    return {k: _with_arrays(v, depth - 1) if isinstance(v, dict) and depth > 1 else v for k, v in read.items()}


def _named(key: str, caffe2: bool) -> str:
    name = _from_caffe2(key) if caffe2 else key
    return name if name.startswith(_BOTTOM_UP) else _BOTTOM_UP + name


def _from_caffe2(key: str) -> str:
    """``res2_0_branch2a_bn_s`` -> ``res2.0.conv1.norm.weight``; keys of no backbone keep their name."""
    match = _CAFFE2.fullmatch(key)
    if match is None:
        return key
    stem, stage, block, branch, norm, tensor = match.groups()
    layer = "stem.conv1" if stem else f"res{stage}.{block}.{_BRANCHES[branch]}"
    return f"{layer}.norm.{_NORMS[tensor]}" if norm else f"{layer}.{_TENSORS.get(tensor, tensor)}"


_CAFFE2 = re.compile(
    r"(?:((?:res_)?conv1)|res([2-5])_(\d+)_branch(1|2a|2b|2c))"
    r"(_bn|_gn)?_(w|b|s|rm|riv|gamma|beta|running_mean|running_var)"
)
_BRANCHES = {"1": "shortcut", "2a": "conv1", "2b": "conv2", "2c": "conv3"}
_TENSORS = {"w": "weight", "b": "bias"}
_NORMS = {
    "w": "weight", "s": "weight", "gamma": "weight", "b": "bias", "beta": "bias", "rm": "running_mean",
    "running_mean": "running_mean", "riv": "running_var", "running_var": "running_var",
}  # fmt: skip


def _with_statistics(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Add the statistics that affine layers leave out."""
    added = dict(state)
    for key, value in state.items():
        layer, _, tensor = key.rpartition(".")
        if layer.endswith(".norm") and tensor == "weight":
            added.setdefault(f"{layer}.running_mean", torch.zeros_like(value))
            added.setdefault(f"{layer}.running_var", torch.full_like(value, 1 - _BN_EPS))
    return added


def _msra(resnet: str) -> Path:
    """Detectron2's ImageNet weights, in torch's cache; their publisher gives no checksum to compare."""
    if resnet not in _MSRA_NAMES:
        problem = f"but there are none for {resnet}"
        raise UserError("settings", "backbone.weights", MSRA, problem, "Use resnet50 or resnet101, or other weights")
    name = _MSRA_NAMES[resnet]
    path, url = Path(torch.hub.get_dir()) / "checkpoints" / f"msra-{name}.pkl", _MSRA_URL.format(name)
    download_weights(url, path, MSRA)
    return path
