"""How a network's first convolution is fed: the order of the channels, and the mean and deviation taken off."""

from typing import Literal

import numpy as np
import torch
from pydantic import BaseModel
from torch import Tensor

from sapnet_pipe.stages.training.image_batch import IMAGENET_MEAN, IMAGENET_STD

Triple = tuple[float, float, float]


class Pixels(BaseModel, frozen=True, extra="forbid"):
    """What Detectron2 calls ``INPUT.FORMAT``, ``MODEL.PIXEL_MEAN`` and ``MODEL.PIXEL_STD``.

    Attributes:
        format: Order of the channels.
        mean, std: Per channel in that order, on pixels from 0 to 255.
    """

    format: Literal["RGB", "BGR"]
    mean: Triple
    std: Triple


def _scaled(values: Triple) -> Triple:
    """Times 255 in float32, so that normalising by them gives the very bits of `batch_images`."""
    red, green, blue = (float(np.float32(255) * np.float32(value)) for value in values)
    return red, green, blue


OUR_PIXELS = Pixels(format="RGB", mean=_scaled(IMAGENET_MEAN), std=_scaled(IMAGENET_STD))
# Detectron2's defaults, AdelaiDet's and the MSRA weights': the deviation is part of the first convolution.
DETECTRON2_PIXELS = Pixels(format="BGR", mean=(103.53, 116.28, 123.675), std=(1.0, 1.0, 1.0))


def refold_stem(stem: Tensor, source: Pixels, target: Pixels) -> Tensor:
    """The first convolution for pixels that come as `target` instead of as `source`; the network computes the same.

    Padding is zero after the mean is taken off, on both sides, so that the borders agree too.

    Args:
        stem: (C, 3, k, k).
    Raises: ValueError if it is no such weight, and if the means differ, which a convolution without bias cannot fix.
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


def _rgb(values: Triple, pixels: Pixels) -> Tensor:
    ordered = torch.tensor(values, dtype=torch.float64)
    return ordered.flip(0) if pixels.format == "BGR" else ordered
