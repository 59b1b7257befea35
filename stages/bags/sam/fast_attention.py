"""The attention of SAM's image encoder, made fast: softmax(scale * q k^T + by_row + by_column) v.

`by_row` and `by_column` are the relative-position bias: the query's product with the learned code of every distance
between rows and between columns. Where a fused kernel is the fastest it gets their sum as a mask. On a CPU in half
precision plain products are faster, and the bias is the greater cost. There it is made piece by piece, each small
enough for the cache, and in windows it is no mask at all: it is the product of (by_row, by_column) with one-hot codes
of the key's row and column, and goes along as further channels of query and key.
"""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

Tables = tuple[Tensor, Tensor]

_CPU_VALUES = 1 << 22  # of the scores or the bias that are made at once on a CPU


def attention(query: Tensor, key: Tensor, value: Tensor, tables: Tables | None) -> Tensor:
    """Attention over a grid of h x w tokens.

    Args:
        query, key, value: (B, heads, h * w, d).
        tables: (h, h, d) codes of every pair of rows and (w, w, d) of every pair of columns; None without positions.
    Returns: (B, heads, h * w, d).
    """
    if tables is None:
        return F.scaled_dot_product_attention(query, key, value)
    grid = query.unflatten(2, (len(tables[0]), len(tables[1])))
    by_row = torch.einsum("bnhwd,hkd->bnhwk", grid, tables[0])  # (B, heads, h, w, h)
    by_column = torch.einsum("bnhwd,wkd->bnhwk", grid, tables[1])  # (B, heads, h, w, w)
    plain = query.device.type == "cpu" and query.dtype != torch.float32
    if plain and query.shape[2] ** 2 * 8 <= _CPU_VALUES:
        return _with_channels(query, key, value, by_row.flatten(2, 3), by_column.flatten(2, 3))
    return _with_mask(query, key, value, by_row, by_column, plain)


def _with_channels(query: Tensor, key: Tensor, value: Tensor, by_row: Tensor, by_column: Tensor) -> Tensor:
    """The bias as further channels; by_row (B, heads, h * w, h) and by_column (B, heads, h * w, w)."""
    batch, heads, size, depth = query.shape
    height, width = by_row.shape[-1], by_column.shape[-1]
    rows = torch.eye(height, dtype=key.dtype).repeat_interleave(width, dim=0)
    places = torch.cat([rows, torch.eye(width, dtype=key.dtype).repeat(height, 1)], dim=1)
    queries = torch.cat([query * depth**-0.5, by_row, by_column], dim=3).flatten(0, 1)
    keys = torch.cat([key, places.expand(batch, heads, -1, -1)], dim=3).flatten(0, 1)
    values, mixed = value.flatten(0, 1), query.new_empty(batch * heads, size, depth)
    together = max(1, _CPU_VALUES // size**2)
    for start in range(0, len(queries), together):
        part = slice(start, start + together)
        scores = torch.bmm(queries[part], keys[part].mT)
        torch.softmax(scores, dim=-1, out=scores)
        torch.bmm(scores, values[part], out=mixed[part])
    return mixed.view(batch, heads, size, depth)


def _with_mask(query: Tensor, key: Tensor, value: Tensor, by_row: Tensor, by_column: Tensor, plain: bool) -> Tensor:
    """The bias as a mask, in pieces on a CPU; by_row (B, heads, h, w, h) and by_column (B, heads, h, w, w)."""
    mixed, bias, width = torch.empty_like(value), query.new_empty(0), by_column.shape[-1]
    if plain:
        key = key.mT.contiguous().mT  # as its products read it
    for head, row in _pieces(query.device.type, by_row.shape, width):
        terms = by_row[:, head, row, :, :, None], by_column[:, head, row, :, None, :]
        shape = torch.broadcast_shapes(*(term.shape for term in terms))
        bias = bias if bias.shape == shape else query.new_empty(shape)
        torch.add(*terms, out=bias)
        place, mask = slice(row.start * width, row.stop * width), bias.flatten(4).flatten(2, 3)
        parts = query[:, head, place], key[:, head], value[:, head]
        mixed[:, head, place] = _plain(*parts, mask) if plain else F.scaled_dot_product_attention(*parts, mask)
    return mixed


def _plain(query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
    """All in half precision, in the memory of `bias`."""
    batch, heads, size, depth = query.shape
    scores = bias.flatten(0, 1)
    scores.baddbmm_((query * depth**-0.5).flatten(0, 1), key.flatten(0, 1).transpose(1, 2))
    torch.softmax(scores, dim=-1, out=scores)
    return torch.bmm(scores, value.flatten(0, 1)).view(batch, heads, size, depth)


def _pieces(device: str, shape: torch.Size, width: int) -> Iterator[tuple[slice, slice]]:
    """Slices of heads and of rows whose biases fit the device's measure; all at once unless it is a CPU."""
    batch, heads, height = shape[:3]
    values_per_row = batch * width * height * width
    budget = _CPU_VALUES if device == "cpu" else values_per_row * height * heads
    rows = max(1, min(height, budget // values_per_row))
    together = max(1, budget // (values_per_row * height)) if rows == height else 1
    for head in range(0, heads, together):
        for row in range(0, height, rows):
            yield slice(head, head + together), slice(row, min(row + rows, height))
