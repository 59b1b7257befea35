"""Checkpoints of a training: tensors and plain values only, loadable with ``weights_only=True``."""

import pickle
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from sapnet_pipe.data.errors import UserError
from sapnet_pipe.data.files import atomic_path, reading

FORMAT = "sapnet-pipe/training/1"


@dataclass(frozen=True)
class Checkpoint:
    """State after `iteration` optimiser steps.

    Attributes:
        model, optimizer: State dicts.
        scaler: State of the fp16 loss scaler; empty in other precisions.
        iteration: Steps done.
        seed: The seed of this training (a restart by the seed guard has another one than the run).
        metrics_bytes: Length of metrics.jsonl at this moment.
        progress: Counts and sums that the next record continues (`step.TrainStep.progress`); earlier versions, which
            had none, wrote checkpoints that lack it.
    """

    model: dict[str, Any]
    optimizer: dict[str, Any]
    scaler: dict[str, Any]
    iteration: int
    seed: int
    metrics_bytes: int
    progress: dict[str, Any] = field(default_factory=dict)


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write the checkpoint atomically: a kill at any moment leaves the old one or the new one."""
    save_tensors(path, {"format": FORMAT, **{k: getattr(checkpoint, k) for k in _FIELDS}})


def load_checkpoint(path: Path, map_location: str | torch.device = "cpu") -> Checkpoint:
    """Read a checkpoint without running any code in it.

    Raises: UserError if the file is missing, truncated, holds code, or was not written by this program.
    """
    content = load_tensors(path, map_location)
    if content.get("format") != FORMAT or any(key not in content for key in _REQUIRED):
        raise UserError(path, "format", content.get("format"), f"not a checkpoint of this program ({FORMAT})", _HINT)
    found = {key: content[key] for key in _FIELDS if key in content}
    for key, value in found.items():
        number = isinstance(value, int) and 0 <= value < _MOST
        if not (number if key in _NUMBERS else isinstance(value, dict)):
            wrong = value if isinstance(value, (int, str)) else type(value).__name__
            raise UserError(path, key, wrong, "which is not what a training writes", _HINT)
    return Checkpoint(**found)


def save_tensors(path: Path, content: dict[str, Any]) -> None:
    """`torch.save`, atomically; the same content gives the same bytes.

    Raises: UserError if the disk is full or the folder cannot be written.
    """
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        try:
            torch.save(content, file)
        except RuntimeError as error:
            # After a write that failed or was interrupted torch closes its archive, fails again, and so hides why.
            if isinstance(error.__context__, (OSError, KeyboardInterrupt)):
                raise error.__context__ from error
            raise


def load_tensors(path: Path, map_location: str | torch.device = "cpu") -> dict[str, Any]:
    """`torch.load` with ``weights_only=True`` and errors a user can fix; the file must hold a dictionary."""
    with reading(path):
        Path(path).open("rb").close()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # about old pickles: what cannot be loaded is reported below
            content = torch.load(path, map_location=map_location, weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # a damaged pickle may raise any
        raise UserError(path, "content", Path(path).name, _why_not_tensors(error), _HINT) from error
    if not isinstance(content, dict):
        raise UserError(path, "content", type(content).__name__, "not a dictionary of tensors", _HINT)
    return content


def unwrapped(content: dict[str, Any]) -> dict[str, Any]:
    """The weights in what `load_tensors` read, without what training tools put around them.

    They may lie in ``model``, ``state_dict`` or ``model_state``, and all their names may begin with ``module.`` (of
    distributed training) or ``sam.``.
    """
    content = next((content[key] for key in _WRAPPERS if isinstance(content.get(key), dict)), content)
    for prefix in _PREFIXES:
        if content and all(str(key).startswith(prefix) for key in content):
            content = {key.removeprefix(prefix): value for key, value in content.items()}
    return content


def _why_not_tensors(error: Exception) -> str:
    """Torch's own words run over many lines and advise to load the file without care."""
    if isinstance(error, pickle.UnpicklingError):
        return "which is damaged, or holds code that could run when it is loaded"
    return "which is truncated or damaged, or no file of tensors at all"


def load_weights(model: torch.nn.Module, state: dict[str, Any], path: Path) -> None:
    """Load a state dict strictly.

    Raises: UserError naming the first key that is missing, unknown or of another shape.
    """
    expected = model.state_dict()
    for key in expected.keys() | state.keys():
        problem = ""
        if key not in state:
            problem = "which the checkpoint lacks"
        elif key not in expected:
            problem = "which this network does not have"
        elif not isinstance(state[key], torch.Tensor) or state[key].shape != expected[key].shape:
            problem = f"another shape than this network has, {tuple(expected[key].shape)}"
        if problem:
            value = tuple(state[key].shape) if isinstance(state.get(key), torch.Tensor) else key
            raise UserError(path, f"model.{key}", value, problem, "Use the settings that the checkpoint was made with")
    model.load_state_dict(state)


_FIELDS = tuple(Checkpoint.__dataclass_fields__)
_NUMBERS, _MOST = ("iteration", "seed", "metrics_bytes"), 1 << 53
_REQUIRED = tuple(name for name in _FIELDS if name != "progress")
_WRAPPERS, _PREFIXES = ("model", "state_dict", "model_state"), ("module.", "sam.")
_HINT = "Give another checkpoint, or train again into a new folder"
