"""What decides a result, as twelve hex digits: results of one key are the same, whatever variant they were made for."""

import hashlib
import json
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from sapnet_pipe.data.files import sha256_file
from sapnet_pipe.stages.training.run_files import CHECKPOINT

_ELSEWHERE = {"weights": "", "cache": ""}
_NO_MATTER: Any = {"device": True, "train": {"checkpoint_minutes"}}  # to the result


def select_key(config: BaseModel, inputs: Mapping[str, str]) -> str:
    """Key of a selector: modules that its method lacks do not count, and features by what made them."""
    from sapnet_pipe.stages.select.config import SelectConfig, for_method

    settings = for_method(SelectConfig.model_validate(config))
    frozen = settings.frozen
    if not frozen.enabled:
        return key_of(settings, inputs, without={"frozen"})
    backbone = {"backbone": sha256_file(Path(frozen.weights) / CHECKPOINT)} if frozen.weights else {}
    moved = settings.model_copy(update={"frozen": frozen.model_copy(update=_ELSEWHERE)})
    return key_of(moved, {**inputs, **backbone})


def key_of(config: BaseModel, inputs: Mapping[str, str], *, without: set[str] | None = None) -> str:
    """Key of settings (except for `_NO_MATTER` and `without`), the inputs' fingerprints and this program's version."""
    values = {
        "settings": config.model_dump(mode="json", exclude=_NO_MATTER | dict.fromkeys(without or (), True)),
        "inputs": dict(inputs),
        "version": metadata.version("sapnet-pipe"),
    }
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]
