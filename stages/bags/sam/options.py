"""From the settings to the way SAM computes on this device, and to its name in a store's fingerprint."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from sapnet_pipe.data.errors import UserError
from sapnet_pipe.stages.bags.config import BagsConfig
from sapnet_pipe.stages.bags.recipes import RECIPES
from sapnet_pipe.stages.bags.sam.adapter import SamOptions
from sapnet_pipe.stages.training.devices import pick_device

# Images encoded, and prompts decoded, at once on the fast path. On a CPU one by one is the fastest: an image fills the
# cores, and the masks of one prompt still fit into the caches.
_ENCODE_BATCH = {"cuda": 4}
_DECODE_BATCH = {"cuda": 32, "mps": 8}


def sam_options(config: BagsConfig, device: torch.device) -> SamOptions:
    """How SAM shall compute on `device`.

    Raises: UserError for what does not pay off on a CPU: float16, which it computes slowly, and `torch.compile`.
    """
    innermost = RECIPES[config.recipe].second_point == "innermost"
    if not config.fast:
        return SamOptions(features=config.features, innermost=innermost)
    if config.arithmetic == "float16" and device.type == "cpu":
        problem = "which a CPU computes ten times slower than float32"
        raise UserError("settings", "precision", "float16", problem, "Use bfloat16")
    if config.compile and device.type == "cpu":
        problem = "which gains under 7 % on a CPU and takes minutes"
        raise UserError("settings", "compile", True, problem, "Leave it out, or use a GPU")
    return SamOptions(
        getattr(torch, config.arithmetic),
        _DECODE_BATCH.get(device.type, 1),
        config.features,
        innermost,
        encode_batch(config, device) if config.compile else 0,
    )


def encode_batch(config: BagsConfig, device: torch.device) -> int:
    """Images that are encoded at once."""
    if not config.fast:
        return 1
    return config.encode_batch or _ENCODE_BATCH.get(device.type, 1)


def encodes_together(config: BagsConfig) -> bool:
    """Whether an image may be encoded together with others, on which its last bits then depend."""
    return encode_batch(config, pick_device(config.device)) > 1


def precision_name(config: BagsConfig) -> str:
    """All settings of this file that decide bits, as the manifest's `precision`."""
    if not config.fast:
        return config.arithmetic
    batch = f", {config.encode_batch} images at once" if config.encode_batch else ""
    return f"{config.arithmetic}, fast{', compiled' if config.compile else ''}{batch}"


@contextmanager
def repeatable() -> Iterator[None]:
    """Let cuDNN take only algorithms that give the same bits every time, so that a restart fits what is there."""
    before = torch.backends.cudnn.deterministic
    torch.backends.cudnn.deterministic = True
    try:
        yield
    finally:
        torch.backends.cudnn.deterministic = before
