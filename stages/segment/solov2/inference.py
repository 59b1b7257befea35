"""From SOLOv2's predictions to instances.

K classes, D kernel channels, S cells over all levels, h x w mask features at stride 4, n candidates.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from sapnet_pipe.stages.segment.config import NmsKernel
from sapnet_pipe.stages.segment.solov2.heads import MASK_STRIDE
from sapnet_pipe.stages.segment.solov2.matrix_nms import mask_nms, matrix_nms, point_nms
from sapnet_pipe.stages.segment.solov2.model import Predictions

_CHUNK = 512


@dataclass(frozen=True)
class Decoding:
    """Thresholds of the decoding; the names and defaults are SOLOv2's."""

    score_threshold: float = 0.1
    update_threshold: float = 0.05
    mask_threshold: float = 0.5
    nms_pre: int = 500
    max_per_image: int = 100
    nms_type: Literal["matrix", "mask"] = "matrix"
    nms_kernel: NmsKernel = "gaussian"
    nms_sigma: float = 2.0


class Candidates(NamedTuple):
    """n found objects of one image: scores (n,) float32 falling, classes (n,) int64, probabilities (n, h, w)."""

    scores: Tensor
    classes: Tensor
    probabilities: Tensor


def find_candidates(predictions: Predictions, strides: Sequence[int], decoding: Decoding) -> list[Candidates]:
    """Score, suppress and rank the objects of every image, at stride 4.

    Args:
        strides: Stride of each level; a mask of no more pixels than that is dropped.
    """
    scores = [point_nms(logits.float().sigmoid()).flatten(2) for logits in predictions.cate_logits]
    cell_scores = torch.cat(scores, dim=2).transpose(1, 2)  # (B, S, K)
    kernels = torch.cat([kernel.flatten(2) for kernel in predictions.kernels], dim=2).float().transpose(1, 2)
    cell_stride = torch.cat([s.new_full((s.shape[2],), n) for s, n in zip(scores, strides, strict=True)])
    per_image = zip(cell_scores, kernels, predictions.mask_features.float(), strict=True)
    return [_rank(_score(s, k, f, cell_stride, decoding), decoding) for s, k, f in per_image]


def _score(
    cell_scores: Tensor, kernels: Tensor, mask_features: Tensor, cell_stride: Tensor, decoding: Decoding
) -> Candidates:
    """Candidates above the threshold, each score times its mask's mean probability; the `nms_pre` best.

    An untrained network makes thousands of candidates; masks are made by the chunk, so memory does not follow.

    Args:
        cell_scores: (S, K).
        kernels: (S, D).
        mask_features: (D, h, w).
        cell_stride: (S,).
    """
    cell, classes = (cell_scores > decoding.score_threshold).nonzero(as_tuple=True)
    raw = cell_scores[cell, classes]
    best = Candidates(raw[:0], classes[:0], mask_features.new_zeros(0, *mask_features.shape[1:]))
    for start in range(0, len(cell), _CHUNK):
        part = slice(start, start + _CHUNK)
        probabilities = torch.einsum("nd,dhw->nhw", kernels[cell[part]], mask_features).sigmoid_()
        inside = (probabilities > decoding.mask_threshold).float()  # counted five times faster than booleans are
        area = inside.sum((1, 2))
        mean = (probabilities * inside).sum((1, 2)) / area.clamp(min=1)
        large = area > cell_stride[cell[part]]
        more = Candidates((raw[part] * mean)[large], classes[part][large], probabilities[large])
        best = _best(more if not start else _joined(best, more), decoding.nms_pre)
    return best


def _rank(candidates: Candidates, decoding: Decoding) -> Candidates:
    """Suppress what overlaps, then keep the `max_per_image` best."""
    masks = (candidates.probabilities > decoding.mask_threshold).flatten(1)
    if decoding.nms_type == "mask":
        scores = candidates.scores
        keep = mask_nms(masks, candidates.classes, threshold=decoding.mask_threshold)
    else:
        scores = matrix_nms(
            masks, candidates.classes, candidates.scores, kernel=decoding.nms_kernel, sigma=decoding.nms_sigma
        )
        keep = scores >= decoding.update_threshold
    kept = Candidates(scores[keep], candidates.classes[keep], candidates.probabilities[keep])
    return _best(kept, decoding.max_per_image)


def _best(candidates: Candidates, limit: int) -> Candidates:
    """The `limit` highest scores, falling; equal ones keep their order."""
    order = candidates.scores.sort(descending=True, stable=True).indices[:limit]
    return Candidates(*(part[order] for part in candidates))


def _joined(first: Candidates, second: Candidates) -> Candidates:
    return Candidates(*(torch.cat(parts) for parts in zip(first, second, strict=True)))


def full_masks(
    probabilities: Tensor, image_size: tuple[int, int], output_size: tuple[int, int], threshold: float
) -> Tensor:
    """Enlarge probabilities by 4, cut the padding off, resize to the output and binarise.

    Args:
        probabilities: (n, h, w) at stride 4 of the padded network input.
        image_size: (H, W) of the network input without its padding.
        output_size: (H, W) wanted.
    Returns: (n, H, W) bool.
    """
    if not len(probabilities):
        return torch.zeros((0, *output_size), dtype=torch.bool, device=probabilities.device)
    large = _resize(probabilities, (MASK_STRIDE * probabilities.shape[1], MASK_STRIDE * probabilities.shape[2]))
    return _resize(large[:, : image_size[0], : image_size[1]], output_size) > threshold


def _resize(maps: Tensor, size: tuple[int, int]) -> Tensor:
    if tuple(maps.shape[1:]) == tuple(size):
        return maps
    return interpolate(maps[None], size=size, mode="bilinear", align_corners=False)[0]


def boxes_of_masks(masks: Tensor) -> Tensor:
    """(n, H, W) bool -> (n, 4) float32 XYXY, right and bottom exclusive; zeros where a mask is empty."""
    columns, rows = masks.any(dim=1), masks.any(dim=2)
    ends = [(side.int().argmax(1), side.shape[1] - side.flip(1).int().argmax(1)) for side in (columns, rows)]
    (left, right), (top, bottom) = ends
    return torch.stack([left, top, right, bottom], dim=1).float() * rows.any(dim=1)[:, None]
