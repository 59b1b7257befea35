"""SAM's image encoder made fast; what it gives differs from the exact one by rounding only.

Attention and MLP run in the chosen precision, while the sum that they add to (the residual stream), the norms'
arithmetic and the neck stay in float32. SAM's patch embedding leaves the channels of a token far apart in memory, and
the residual stream inherits that; here they lie together. Windows reach over the edge of the grid; what stands there is
the same for every image, so it takes no part in the linear layers. Modules and weights are SAM's own.
"""

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from segment_anything.modeling.image_encoder import get_rel_pos
from torch import Tensor, nn
from torch.nn import functional as F

from sapnet_pipe.stages.bags.sam.fast_attention import Tables, attention


def speed_up_encoder(encoder: Any, dtype: torch.dtype) -> None:
    """Change an `ImageEncoderViT` in place: weights of attention and MLP to `dtype`, and how they are computed."""
    encoder.patch_embed.forward = partial(_patches, encoder.patch_embed.forward)
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


def _patches(embed: Callable[[Tensor], Tensor], pixels: Tensor) -> Tensor:
    return embed(pixels).contiguous()


def _position_tables(attn: Any) -> Tables | None:
    """(h, h, d) and (w, w, d): the learned code of every pair of rows and of columns."""
    if not attn.use_rel_pos:
        return None
    height, width = ((len(codes) + 1) // 2 for codes in (attn.rel_pos_h, attn.rel_pos_w))
    return get_rel_pos(height, height, attn.rel_pos_h), get_rel_pos(width, width, attn.rel_pos_w)


def _block(block: Any, tables: Tables | None, dtype: torch.dtype, tokens: Tensor) -> Tensor:
    """What SAM's `Block.forward` computes; (B, h, w, C) float32 -> the same, in the memory of `tokens`."""
    tokens += _attended(block.attn, tables, block.window_size, _norm(block.norm1, dtype, tokens))
    tokens += _mlp(block.mlp, _norm(block.norm2, dtype, tokens))
    return tokens


def _norm(norm: nn.LayerNorm, dtype: torch.dtype, tokens: Tensor) -> Tensor:
    return F.layer_norm(tokens, norm.normalized_shape, norm.weight, norm.bias, norm.eps).to(dtype)


def _mlp(mlp: Any, tokens: Tensor) -> Tensor:
    """What SAM's `MLPBlock.forward` computes; (B, h, w, C) -> the same."""
    if tokens.device.type != "cpu":
        result: Tensor = mlp(tokens)
        return result
    hidden = _linear(mlp.lin1, tokens)
    result = mlp.lin2(torch.ops.aten.gelu_(hidden))
    return result


def _linear(layer: nn.Linear, tokens: Tensor) -> Tensor:
    """`layer` of (B, h, w, C); a CPU copies the bias into all of the result before it multiplies, and then adds."""
    if tokens.device.type != "cpu":
        result: Tensor = layer(tokens)
        return result
    result = torch.mm(tokens.flatten(0, 2), layer.weight.t())
    if layer.bias is not None:
        result += layer.bias
    return result.unflatten(0, tokens.shape[:3])


def _attended(attn: Any, tables: Tables | None, window: int, tokens: Tensor) -> Tensor:
    """Attention within windows of `window` tokens a side, or over all where that is 0; (B, h, w, C) -> the same."""
    batch, height, width, channels = tokens.shape
    qkv, heads = _linear(attn.qkv, tokens), attn.num_heads
    if not window:
        query, key, value = qkv.view(batch, height * width, 3, heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        mixed = attention(query, key, value, tables).transpose(1, 2)
        result: Tensor = attn.proj(mixed.reshape(tokens.shape))
        return result
    rows, columns = -(-height // window), -(-width // window)
    # SAM fills up with zeros before it projects, which leaves the bias.
    filling = qkv.new_zeros(1) if attn.qkv.bias is None else attn.qkv.bias
    padded = filling.expand(batch, rows * window, columns * window, 3 * channels).contiguous()
    padded[:, :height, :width] = qkv
    parts = padded.view(batch, rows, window, columns, window, 3, heads, -1).permute(5, 0, 1, 3, 6, 2, 4, 7)
    query, key, value = parts.reshape(3, batch * rows * columns, heads, window**2, -1).unbind(0)
    mixed = attention(query, key, value, tables).view(batch, rows, columns, heads, window, window, -1)
    whole = mixed.permute(0, 1, 4, 2, 5, 3, 6).reshape((*padded.shape[:3], channels))
    result = attn.proj(whole[:, :height, :width].contiguous())
    return result
