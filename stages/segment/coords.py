"""Coordinate channels (CoordConv): what tells two alike objects at different places apart."""

import torch
from torch import Tensor


def coordinate_maps(height: int, width: int, like: Tensor) -> Tensor:
    """(2, height, width) with `like`'s dtype and device: x from -1 (left) to 1 (right), then y from -1 (top) to 1."""
    x = torch.linspace(-1, 1, width, dtype=like.dtype, device=like.device)
    y = torch.linspace(-1, 1, height, dtype=like.dtype, device=like.device)
    return torch.stack([x.expand(height, width), y[:, None].expand(height, width)])


def append_coords(features: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, C + 2, H, W): the coordinates x, y become the last two channels."""
    batch, _, height, width = features.shape
    return torch.cat([features, coordinate_maps(height, width, features).expand(batch, -1, -1, -1)], dim=1)
