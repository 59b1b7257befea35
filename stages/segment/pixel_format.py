"""How a network's first convolution is fed: the order of the channels, and the mean and deviation taken off."""

from typing import Literal

import numpy as np
from pydantic import BaseModel

from sapnet_pipe.stages.training.image_batch import IMAGENET_MEAN, IMAGENET_STD

Triple = tuple[float, float, float]


class PixelFormat(BaseModel, frozen=True, extra="forbid"):
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


OUR_PIXELS = PixelFormat(format="RGB", mean=_scaled(IMAGENET_MEAN), std=_scaled(IMAGENET_STD))
# Detectron2's defaults, AdelaiDet's and the MSRA weights': the deviation is part of the first convolution.
DETECTRON2_PIXELS = PixelFormat(format="BGR", mean=(103.53, 116.28, 123.675), std=(1.0, 1.0, 1.0))
