"""The user's Detectron2 options (``--set detectron2.SOLVER.BASE_LR=0.02``), checked against Detectron2's config."""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from detectron2.config import CfgNode

from sapnet_pipe.data.errors import UserError

# What must agree with model.json, or with the rule that data and draws follow from (seed, iteration).
_DECIDED = {
    "MODEL.DEVICE": "device",
    "MODEL.WEIGHTS": "init, or backbone.weights",
    "MODEL.BACKBONE": "backbone.*",
    "MODEL.RESNETS": "backbone.*",
    "MODEL.FPN": "backbone.fpn_channels and backbone.fpn_norm",
    "MODEL.SOLOV2.LOSS": "loss.*",
    "MODEL.SOLOV2.SCORE_THR": "test.score_threshold",
    "MODEL.SOLOV2": "head.* and test.*",
    "MODEL": "backbone.*, head.* and loss.*",
    "INPUT.FORMAT": "backbone.weights, which knows its pixels",
    "INPUT.MASK_FORMAT": "no other: the masks are bitmasks",
    "INPUT.MIN_SIZE_TEST": "test.short_side",
    "INPUT.MAX_SIZE_TEST": "test.long_side",
    "DATASETS": "--labels and --val-labels",
    "DATALOADER.SAMPLER_TRAIN": "no other: the sampler is the one that a resumed run can go on with",
    "DATALOADER.ASPECT_RATIO_GROUPING": "no other: groups depend on where a run began",
    "TEST.PRECISE_BN": "backbone.norm=gn, which needs no statistics",
    "TEST.AUG": "no other: predictions are made at one size",
    "SOLVER.REFERENCE_WORLD_SIZE": "train.batch_size and train.lr",
    "OUTPUT_DIR": "--out",
    "SEED": "--seed",
    "VERSION": "no other",
}


def merge_options(cfg: CfgNode, options: Mapping[str, Any]) -> None:
    """Lay the options over the config.

    Args:
        options: Nested, as ``{"SOLVER": {"AMP": {"ENABLED": True}}}``.
    Raises: UserError for an option that does not exist, has another type, or is decided by one of our settings.
    """
    _merge(cfg, options, "")


def _merge(node: CfgNode, options: Mapping[str, Any], path: str) -> None:
    for key, value in options.items():
        name = f"{path}{key}"
        if key not in node:
            raise _unknown(name, key, value, node)
        if isinstance(node[key], CfgNode):
            if not isinstance(value, Mapping):
                known = ", ".join(sorted(node[key]))
                raise _fault(name, value, "a group of options", f"Set one of its options: {known}")
            _merge(node[key], value, f"{name}.")
        else:
            _refuse_decided(name, value)
            node[key] = _typed(name, node[key], value)


def _typed(name: str, old: Any, value: Any) -> Any:
    if isinstance(value, (list, tuple)) and isinstance(old, (list, tuple)):
        return type(old)(value)
    if type(old) is float and type(value) is int:
        return float(value)
    if old is not None and type(value) is not type(old):
        raise _fault(name, value, f"which is not a {type(old).__name__}", f"Write it like its default, {old!r}")
    return value


def _refuse_decided(name: str, value: Any) -> None:
    parts = name.split(".")
    prefixes = [".".join(parts[:count]) for count in range(len(parts), 0, -1)]
    if decided := next((prefix for prefix in prefixes if prefix in _DECIDED), None):
        raise _fault(name, value, "which one of our own settings decides", f"Use {_DECIDED[decided]}")


def _unknown(name: str, key: str, value: Any, node: CfgNode) -> UserError:
    close = get_close_matches(key.upper(), list(node), n=3)
    known = ", ".join(close or sorted(node))
    return _fault(name, value, "which is no option of Detectron2", f"Known here: {known}")


def _fault(name: str, value: Any, problem: str, hint: str) -> UserError:
    return UserError("settings", f"detectron2.{name}", value, problem, hint)
