"""SAM's image encoder made fast; what it gives differs from the exact one by rounding only.

Attention and MLP run in the chosen precision, while the sum that they add to (the residual stream), the norms'
arithmetic and the neck stay in float32. The relative-position bias is the sum of a term by the key's row and one by
its column; it goes to `scaled_dot_product_attention` as a mask. On a CPU that mask, 800 MB for one global block of
ViT-B, is made piece by piece, each small enough for the cache, and half precision does without the fused kernel:
measured on two cores, a global block's attention takes 0.75 s of CPU that way and 1.2 s with it. Windows reach over the
edge of the grid; what stands there is the same for every image, so it takes no part in the linear layers. Modules and
weights are SAM's own.
"""

import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from segment_anything.modeling.image_encoder import get_rel_pos, window_partition, window_unpartition
from torch import Tensor, nn
from torch.nn import functional as F

_MASK_VALUES = {"cpu": 1 << 22}  # of the bias that is made at once; all of it where nothing is said


def speed_up_encoder(encoder: Any, dtype: torch.dtype) -> None:
    """Change an `ImageEncoderViT` in place: weights of attention and MLP to `dtype`, attention as above."""
    for block in encoder.blocks:
        block.attn.to(dtype)
        block.mlp.to(dtype)
        block.forward = partial(_block, block, _position_tables(block.attn), dtype)


def compiled(encoder: Any, batch: int) -> Callable[[Tensor], Tensor]:
    """The encoder through `torch.compile`, for batches of one size; as it is, with a warning, if that fails.

    Args:
        batch: Images that the compiled code takes; fewer are made up to it, for other shapes would be compiled anew.
    """
    run = torch.compile(encoder, dynamic=False)
    state: dict[str, Any] = {"run": run}

    def encode(pixels: Tensor) -> Tensor:
        missing = batch - len(pixels)
        whole = torch.cat([pixels, pixels[-1:].expand(missing, -1, -1, -1)]) if missing > 0 else pixels
        try:
            features: Tensor = state["run"](whole)
        except Exception as error:  # compilers fail in many ways, and none of them is a reason to stop
            if state["run"] is encoder:
                raise
            state["run"] = encoder
            reason = str(error).strip().splitlines() or [type(error).__name__]
            warnings.warn(f"torch.compile failed ({reason[0]}); going on without it", stacklevel=2)
            features = encoder(whole)
        return features[: len(pixels)]

    return encode


def _block(block: Any, tables: tuple[Tensor, Tensor] | None, dtype: torch.dtype, tokens: Tensor) -> Tensor:
    """What SAM's `Block.forward` computes; (B, h, w, C) float32 -> the same."""
    tokens = tokens + _attention(block.attn, tables, block.window_size, _norm(block.norm1, dtype, tokens))
    return tokens + block.mlp(_norm(block.norm2, dtype, tokens))


def _norm(norm: nn.LayerNorm, dtype: torch.dtype, tokens: Tensor) -> Tensor:
    return F.layer_norm(tokens, norm.normalized_shape, norm.weight, norm.bias, norm.eps).to(dtype)


def _position_tables(attention: Any) -> tuple[Tensor, Tensor] | None:
    """(h, h, d) and (w, w, d): the learned code of every pair of rows and of columns."""
    if not attention.use_rel_pos:
        return None
    height, width = ((len(codes) + 1) // 2 for codes in (attention.rel_pos_h, attention.rel_pos_w))
    return get_rel_pos(height, height, attention.rel_pos_h), get_rel_pos(width, width, attention.rel_pos_w)


def _attention(attention: Any, tables: tuple[Tensor, Tensor] | None, window: int, tokens: Tensor) -> Tensor:
    """Attention within windows of `window` tokens a side, or over all where that is 0; (B, h, w, C) -> the same."""
    qkv, grid = attention.qkv(tokens), tokens.shape[1:3]
    if not window:
        result: Tensor = attention.proj(_mixed(qkv, attention.num_heads, tables))
        return result
    whole = tuple(-(-side // window) * window for side in grid)
    # SAM fills up with zeros before it projects, which leaves the bias.
    filling = qkv.new_zeros(1) if attention.qkv.bias is None else attention.qkv.bias
    padded = filling.expand(len(qkv), *whole, qkv.shape[-1]).contiguous()
    padded[:, : grid[0], : grid[1]] = qkv
    windows, _ = window_partition(padded, window)
    result = attention.proj(
        window_unpartition(_mixed(windows, attention.num_heads, tables), window, whole, tuple(grid)),
    )
    return result


def _mixed(qkv: Tensor, heads: int, tables: tuple[Tensor, Tensor] | None) -> Tensor:
    """The values mixed by attention: (B, h, w, 3C) -> (B, h, w, C)."""
    batch, height, width, _ = qkv.shape
    tokens = qkv.view(batch, height * width, 3, heads, -1)
    query, key, value = tokens.permute(2, 0, 3, 1, 4).unbind(0)  # (B, heads, h*w, d)
    if tables is None:
        mixed = F.scaled_dot_product_attention(query, key, value).transpose(1, 2)
    else:
        grid = query.unflatten(2, (height, width))
        by_row = torch.einsum("bnhwd,hkd->bnhwk", grid, tables[0])  # (B, heads, h, w, h)
        by_column = torch.einsum("bnhwd,wkd->bnhwk", grid, tables[1])  # (B, heads, h, w, w)
        mixed = torch.empty_like(query.transpose(1, 2), memory_format=torch.contiguous_format)
        attend, bias = _attend_fused, query.new_empty(0)
        if qkv.device.type == "cpu" and qkv.dtype != torch.float32:
            attend, key = _attend, key.mT.contiguous().mT  # as its products read it
        for head, row in _pieces(qkv.device.type, by_row.shape, width):
            terms = by_row[:, head, row, :, :, None], by_column[:, head, row, :, None, :]
            shape = torch.broadcast_shapes(*(term.shape for term in terms))
            bias = bias if bias.shape == shape else query.new_empty(shape)
            torch.add(*terms, out=bias)
            place = slice(row.start * width, row.stop * width)
            piece = attend(query[:, head, place], key[:, head], value[:, head], bias.flatten(4).flatten(2, 3))
            mixed[:, place, head] = piece.transpose(1, 2)
    return mixed.reshape(batch, height, width, -1)


def _attend(query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
    """Attention all in half precision, in the memory of `bias`; on a CPU faster than the fused kernel."""
    batch, heads, size, depth = query.shape
    scores = bias.flatten(0, 1)
    scores.baddbmm_((query * depth**-0.5).flatten(0, 1), key.flatten(0, 1).transpose(1, 2))
    torch.softmax(scores, dim=-1, out=scores)
    return (scores @ value.flatten(0, 1)).view(batch, heads, size, depth)


def _attend_fused(query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(query, key, value, attn_mask=bias)


def _pieces(device: str, shape: torch.Size, width: int) -> Iterator[tuple[slice, slice]]:
    """Slices of heads and of rows whose biases fit the device's measure."""
    batch, heads, height = shape[:3]
    values_per_row = batch * width * height * width
    budget = _MASK_VALUES.get(device, values_per_row * height * heads)
    rows = max(1, min(height, budget // values_per_row))
    together = max(1, budget // (values_per_row * height)) if rows == height else 1
    for head in range(0, heads, together):
        for row in range(0, height, rows):
            yield slice(head, head + together), slice(row, min(row + rows, height))
