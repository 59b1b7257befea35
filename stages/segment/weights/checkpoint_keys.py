"""Our state dict <-> the one that Detectron2 and AdelaiDet write for the same network.

The heads have the same names on both sides. The backbone differs in its names, and in how the first convolution wants
its pixels (see `PixelFormat`); what differs there is folded into that convolution.
"""

from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import Tensor

from sapnet_pipe.stages.segment.pixel_format import DETECTRON2_PIXELS, OUR_PIXELS, PixelFormat, Triple

_STEM = "backbone.bottom_up.stem.conv1.weight"
_MOST_BLOCKS = 23  # of a stage, in ResNet-101


def to_detectron2(state: Mapping[str, Tensor], pixels: PixelFormat = DETECTRON2_PIXELS) -> dict[str, Tensor]:
    """Rename and fold; the counters of batch norms, which Detectron2's files need not have, are left out.

    Args:
        state: State dict of our SOLOv2.
        pixels: What the result is to be fed with.
    """
    renamed = {_renamed(k, _THEIRS): v for k, v in state.items() if not k.endswith("num_batches_tracked")}
    if _STEM in renamed:
        renamed[_STEM] = refold_stem(renamed[_STEM], OUR_PIXELS, pixels)
    return renamed


def from_detectron2(state: Mapping[str, Tensor], pixels: PixelFormat = DETECTRON2_PIXELS) -> dict[str, Tensor]:
    """The way back; keys that have no counterpart keep their name."""
    renamed = dict(state)
    if _STEM in renamed:
        renamed[_STEM] = refold_stem(renamed[_STEM], pixels, OUR_PIXELS)
    return {_renamed(key, _OURS): value for key, value in renamed.items()}


def refold_stem(stem: Tensor, source: PixelFormat, target: PixelFormat) -> Tensor:
    """The first convolution for pixels that come as `target` instead of as `source`; the network computes the same.

    Padding is zero after the mean is taken off, on both sides, so that the borders agree too.

    Args:
        stem: (C, 3, k, k).
    Raises: ValueError if it is not such a weight, and if the means differ, which a convolution without bias cannot fix.
    """
    if not isinstance(stem, Tensor) or stem.ndim != 4 or stem.shape[1] != 3:
        raise ValueError("the first convolution is not one of three channels")
    if source == target:
        return stem
    if not torch.allclose(_rgb(source.mean, source), _rgb(target.mean, target), atol=0.01):
        raise ValueError(f"the pixels' mean {source.mean} ({source.format}) is not {target.mean} ({target.format})")
    rgb = stem[:, [2, 1, 0]] if source.format == "BGR" else stem
    factor = _rgb(target.std, target) / _rgb(source.std, source)
    refolded = rgb * factor.to(stem)[:, None, None]
    return refolded[:, [2, 1, 0]] if target.format == "BGR" else refolded


def in_our_order(keys: Iterable[str]) -> list[str]:
    """Keys of Detectron2's network in the order in which ours has them; those of the heads stay as they are, last."""
    places = {module: place for place, module in enumerate(_OURS)}
    return sorted(keys, key=lambda key: places.get(key.rpartition(".")[0], len(places)))


def _rgb(values: Triple, pixels: PixelFormat) -> Tensor:
    ordered = torch.tensor(values, dtype=torch.float64)
    return ordered.flip(0) if pixels.format == "BGR" else ordered


def _renamed(key: str, names: Mapping[str, str]) -> str:
    module, _, tensor = key.rpartition(".")
    return f"{names.get(module, module)}.{tensor}" if module else key


def _module_names() -> Iterator[tuple[str, str]]:
    """(ours, theirs) for every module of the backbone that holds tensors, in the order of our network."""
    trunk, bottom_up = "backbone.trunk", "backbone.bottom_up"
    yield f"{trunk}.conv1", f"{bottom_up}.stem.conv1"
    yield f"{trunk}.bn1", f"{bottom_up}.stem.conv1.norm"
    for stage in (1, 2, 3, 4):
        for block in range(_MOST_BLOCKS):
            ours, theirs = f"{trunk}.layer{stage}.{block}", f"{bottom_up}.res{stage + 1}.{block}"
            for layer in (1, 2, 3):
                yield f"{ours}.conv{layer}", f"{theirs}.conv{layer}"
                yield f"{ours}.bn{layer}", f"{theirs}.conv{layer}.norm"
            yield f"{ours}.downsample.0", f"{theirs}.shortcut"
            yield f"{ours}.downsample.1", f"{theirs}.shortcut.norm"
    for ours, theirs in (("inner_blocks", "fpn_lateral"), ("layer_blocks", "fpn_output")):
        for level in range(4):
            yield f"backbone.fpn.{ours}.{level}.0", f"backbone.{theirs}{level + 2}"
            yield f"backbone.fpn.{ours}.{level}.1", f"backbone.{theirs}{level + 2}.norm"


_THEIRS = dict(_module_names())
_OURS = {theirs: ours for ours, theirs in _THEIRS.items()}
