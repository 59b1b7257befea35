"""SAM's image encoder on a CPU, bit for bit, without fresh memory for every step of its attention.

The scores of one global block of ViT-B fill 800 MB, and `segment_anything` allocates them four times over; to have
the kernel clear that memory costs more than the arithmetic. Here the same operations, in the same order, work in one
block of memory that is kept.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from segment_anything.modeling.image_encoder import get_rel_pos
from torch import Tensor, nn


class ExactEncoder:
    """The encoder of one SAM, called as the original is."""

    def __init__(self, encoder: Any) -> None:
        """Args: encoder: An `ImageEncoderViT` in evaluation mode; it stays as it is."""
        self._encoder = encoder
        self._memory = torch.empty(0)

    def __call__(self, pixels: Tensor) -> Tensor:
        """(B, 3, S, S) normalised pixels to (B, C, h, w) features; in inference mode."""
        forwards = {block.attn: partial(self._attention, block.attn) for block in self._encoder.blocks}
        with replaced_forwards(forwards):
            features: Tensor = self._encoder(pixels)
        return features

    def _attention(self, attention: Any, tokens: Tensor) -> Tensor:
        """What SAM's `Attention.forward` computes: (B, h, w, C) -> (B, h, w, C)."""
        batch, height, width, _ = tokens.shape
        qkv = attention.qkv(tokens).reshape(batch, height * width, 3, attention.num_heads, -1).permute(2, 0, 3, 1, 4)
        query, key, value = qkv.reshape(3, batch * attention.num_heads, height * width, -1).unbind(0)
        scores = self._scores(len(query), height * width)
        torch.bmm(query * attention.scale, key.transpose(-2, -1), out=scores)
        if attention.use_rel_pos:
            grid = query.reshape(len(query), height, width, -1)
            by_row = get_rel_pos(height, height, attention.rel_pos_h)
            by_column = get_rel_pos(width, width, attention.rel_pos_w)
            pairs = scores.view(len(query), height, width, height, width)
            pairs += torch.einsum("bhwc,hkc->bhwk", grid, by_row)[:, :, :, :, None]
            pairs += torch.einsum("bhwc,wkc->bhwk", grid, by_column)[:, :, :, None, :]
        torch.softmax(scores, dim=-1, out=scores)
        mixed = (scores @ value).view(batch, attention.num_heads, height, width, -1)
        result: Tensor = attention.proj(mixed.permute(0, 2, 3, 1, 4).reshape(batch, height, width, -1))
        return result

    def _scores(self, maps: int, tokens: int) -> Tensor:
        """(maps, tokens, tokens) of the memory that is kept."""
        size = maps * tokens * tokens
        if len(self._memory) < size:
            self._memory = torch.empty(size)
        return self._memory[:size].view(maps, tokens, tokens)


Forward = Callable[..., Any]


@contextmanager
def replaced_forwards(forwards: Mapping[nn.Module, Forward]) -> Iterator[None]:
    """Let the modules run other functions in place of their `forward`; not for two threads at once."""
    for module, forward in forwards.items():
        module.__dict__["forward"] = forward
    try:
        yield
    finally:
        for module in forwards:
            module.__dict__.pop("forward", None)
