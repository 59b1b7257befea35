"""SOLOv2 as the notes of the golden vectors state its rules, one after the other and without our short cuts.

This is the slow side of `make bench-seg`: targets level by level on masks of full size, a convolution per level and
image in the loss, all pairs at once in Matrix NMS. `test_reference_solov2.py` holds it to the golden vectors.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import cv2
import torch
from torch import Tensor, nn
from torch.nn import functional

GRIDS = (40, 36, 24, 16, 12)
STRIDES = (8, 8, 16, 32, 32)
RANGES = ((1, 96), (48, 192), (96, 384), (192, 768), (384, 2048))


class Outputs(NamedTuple):
    """Raw predictions: per level (B, K, G, G) logits and (B, D, G, G) kernels; mask features (B, D, h, w)."""

    cate: list[Tensor]
    kernels: list[Tensor]
    mask: Tensor


class LevelTargets(NamedTuple):
    """Of one image and level: (G, G) classes, (n, h, w) masks, and the n cells that they are for."""

    cate: Tensor
    masks: Tensor
    cells: list[int]
    hit: Tensor


def resized(maps: Tensor, **size: Any) -> Tensor:
    """Bilinear, half-pixel centres, no antialiasing."""
    return functional.interpolate(maps, mode="bilinear", align_corners=False, **size)


def with_coords(maps: Tensor) -> Tensor:
    """Rule 2.2: append x, then y, from -1 to 1."""
    height, width = maps.shape[-2:]
    y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    coords = torch.stack([x, y]).to(maps).expand(len(maps), 2, height, width)
    return torch.cat([maps, coords], 1)


class PlainSOLOv2(nn.Module):
    """Both heads on a backbone; built of the layers of our model, so that the weights are the same ones."""

    backbone: Any
    ins_head: Any
    mask_head: Any

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.backbone, self.ins_head, self.mask_head = model.backbone, model.ins_head, model.mask_head

    def forward(self, images: Tensor) -> Outputs:
        """Rules 2.1 to 2.3."""
        features: Mapping[str, Tensor] = self.backbone(images)
        levels = [features[name] for name in ("p2", "p3", "p4", "p5", "p6")]
        levels[0] = resized(levels[0], scale_factor=0.5)
        levels[4] = resized(levels[4], size=levels[3].shape[-2:])
        cate, kernels = [], []
        for level, grid in zip(levels, GRIDS, strict=True):
            cells = resized(with_coords(level), size=(grid, grid))
            kernels.append(self.ins_head.kernel_pred(self.ins_head.kernel_tower(cells)))
            cate.append(self.ins_head.cate_pred(self.ins_head.cate_tower(cells[:, :-2])))
        maps = self.mask_head.convs_all_levels[0](features["p2"])
        for index, name in enumerate(("p3", "p4"), 1):
            maps = maps + self.mask_head.convs_all_levels[index](features[name])
        maps = maps + self.mask_head.convs_all_levels[3](with_coords(features["p5"]))
        return Outputs(cate, kernels, self.mask_head.conv_pred(maps))


def center_of_mass(masks: Tensor) -> tuple[Tensor, Tensor]:
    """(N, H, W) -> x and y, each (N,), of pixel indices."""
    height, width = masks.shape[-2:]
    total = masks.sum(-1).sum(-1).clamp(min=1e-6)
    x = (masks * torch.arange(width, dtype=torch.float32)).sum(-1).sum(-1) / total
    y = (masks * torch.arange(height, dtype=torch.float32)[:, None]).sum(-1).sum(-1) / total
    return x, y


def level_targets(
    boxes: Tensor,
    classes: Tensor,
    masks: Tensor,
    feat_size: tuple[int, int],
    grid: int,
    limits: Sequence[float],
    sigma: float,
    num_classes: int,
) -> LevelTargets:
    """Rule 2.4 for one level."""
    sides = boxes[:, 2:] - boxes[:, :2]
    size = (sides[:, 0] * sides[:, 1]).sqrt()
    chosen = ((size >= limits[0]) & (size <= limits[1])).nonzero().flatten()
    cate = torch.full((grid, grid), num_classes, dtype=torch.int64)
    hit = torch.zeros(grid * grid, dtype=torch.bool)
    small: list[Tensor] = []
    cells: list[int] = []
    if not len(chosen):
        return LevelTargets(cate, torch.zeros((0, *feat_size), dtype=torch.uint8), cells, hit)
    center_x, center_y = center_of_mass(masks[chosen])
    not_empty = masks[chosen].sum(-1).sum(-1) > 0
    half = 0.5 * sides[chosen] * sigma
    for row, index in enumerate(chosen.tolist()):
        if not not_empty[row]:
            continue
        top, bottom = _range(center_y[row], half[row, 1], 4 * feat_size[0], grid)
        left, right = _range(center_x[row], half[row, 0], 4 * feat_size[1], grid)
        cate[top : bottom + 1, left : right + 1] = classes[index]
        target = _quarter(masks[index], feat_size)
        for y in range(top, bottom + 1):
            for x in range(left, right + 1):
                hit[y * grid + x] = True
                cells.append(y * grid + x)
                small.append(target)
    stacked = torch.stack(small) if small else torch.zeros((0, *feat_size), dtype=torch.uint8)
    return LevelTargets(cate, stacked, cells, hit)


def _range(center: Tensor, half: Tensor, padded: int, grid: int) -> tuple[int, int]:
    """First and last row (or column): those of the box about the centre, at most one off the centre's."""

    def cell(position: Tensor) -> int:
        return int(torch.floor_divide(position / padded, 1.0 / grid))

    middle = cell(center)
    first = max(cell(center - half), 0, middle - 1)
    return first, min(cell(center + half), grid - 1, middle + 1)


def _quarter(mask: Tensor, feat_size: tuple[int, int]) -> Tensor:
    height, width = int(mask.shape[0] / 4 + 0.5), int(mask.shape[1] / 4 + 0.5)
    target = torch.zeros(feat_size, dtype=torch.uint8)
    if height and width:
        small = cv2.resize(mask.numpy(), (width, height), interpolation=cv2.INTER_LINEAR)
        target[:height, :width] = torch.from_numpy(small)
    return target


def plain_targets(
    boxes: Tensor,
    classes: Tensor,
    masks: Tensor,
    feat_size: tuple[int, int],
    *,
    ranges: Sequence[Sequence[float]] = RANGES,
    sigma: float = 0.2,
    num_classes: int,
) -> list[LevelTargets]:
    """Rule 2.4 for one image: boxes (N, 4), classes (N,), masks (N, H, W) uint8."""
    return [
        level_targets(boxes, classes, masks, feat_size, grid, limits, sigma, num_classes)
        for grid, limits in zip(GRIDS, ranges, strict=True)
    ]


def plain_losses(outputs: Outputs, targets: Sequence[Sequence[LevelTargets]], num_classes: int) -> dict[str, Tensor]:
    """Rule 2.5; `targets` by image, then by level. Some cell must be positive."""
    dice = []
    for level in range(len(GRIDS)):
        scores, masks = [], []
        for image, levels in enumerate(targets):
            cells = levels[level].cells
            if cells:
                kernels = outputs.kernels[level][image].flatten(1)[:, cells].T[:, :, None, None]
                scores.append(functional.conv2d(outputs.mask[image : image + 1], kernels)[0].sigmoid())
                masks.append(levels[level].masks)
        if scores:
            dice.append(dice_loss(torch.cat(scores), torch.cat(masks)))
    logits = torch.cat([cate.permute(0, 2, 3, 1).reshape(-1, num_classes) for cate in outputs.cate])
    labels = torch.cat([levels[level].cate.flatten() for level in range(len(GRIDS)) for levels in targets])
    positive = sum(int(target.hit.sum()) for levels in targets for target in levels)
    one_hot = functional.one_hot(labels, num_classes + 1)[:, :num_classes].to(logits)
    return {
        "loss_ins": 3.0 * torch.cat(dice).mean(),
        "loss_cate": focal_loss(logits, one_hot).sum() / (positive + 1),
    }


def dice_loss(scores: Tensor, masks: Tensor) -> Tensor:
    """1 - 2 sum(p t) / (sum p^2 + 0.001 + sum t^2 + 0.001), (n, h, w) -> (n,)."""
    scores, masks = scores.flatten(1), masks.flatten(1).float()
    overlap = (scores * masks).sum(1)
    return 1 - 2 * overlap / ((scores * scores).sum(1) + 0.001 + (masks * masks).sum(1) + 0.001)


def focal_loss(logits: Tensor, one_hot: Tensor, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Sigmoid focal loss of every cell and class."""
    scores = logits.sigmoid()
    entropy = functional.binary_cross_entropy_with_logits(logits, one_hot, reduction="none")
    right = scores * one_hot + (1 - scores) * (1 - one_hot)
    return (alpha * one_hot + (1 - alpha) * (1 - one_hot)) * entropy * (1 - right) ** gamma


def plain_matrix_nms(masks: Tensor, classes: Tensor, scores: Tensor, sigma: float = 2.0) -> Tensor:
    """Rule 2.6, the gaussian kernel: masks (N, h, w) and classes by falling scores -> lowered scores (N,)."""
    count = len(scores)
    flat = masks.reshape(count, -1).float()
    inter = flat @ flat.T
    area = flat.sum(1).expand(count, count)
    iou = (inter / (area + area.T - inter)).triu(1)
    same = (classes.expand(count, count) == classes.expand(count, count).T).float().triu(1)
    decay = iou * same
    shield = decay.max(0).values.expand(count, count).T
    factor = torch.exp(-sigma * decay**2) / torch.exp(-sigma * shield**2)
    return scores * factor.min(0).values


class Found(NamedTuple):
    """Instances of one image: scores (n,) falling, classes (n,), masks (n, H, W) bool."""

    scores: Tensor
    classes: Tensor
    masks: Tensor


def plain_inference(
    outputs: Outputs,
    image: int,
    image_size: tuple[int, int],
    output_size: tuple[int, int],
    *,
    score_threshold: float = 0.1,
    update_threshold: float = 0.05,
    nms_pre: int = 500,
    max_per_image: int = 100,
) -> Found:
    """Rule 2.6 for one image of the batch; with the sane enlarging by 4 (note 5.8)."""
    scores, kernels, strides = [], [], []
    for cate, kernel, stride in zip(outputs.cate, outputs.kernels, STRIDES, strict=True):
        score = cate[image : image + 1].sigmoid()
        highest = functional.max_pool2d(score, 2, stride=1, padding=1)[:, :, :-1, :-1]
        scores.append((score * (highest == score).float())[0].permute(1, 2, 0).reshape(-1, score.shape[1]))
        kernels.append(kernel[image].permute(1, 2, 0).reshape(-1, kernel.shape[1]))
        strides.append(torch.full((len(scores[-1]),), float(stride)))
    every = torch.cat(scores)
    cell, classes = (every > score_threshold).nonzero(as_tuple=True)
    score, kernel, strides_of_cells = every[cell, classes], torch.cat(kernels)[cell], torch.cat(strides)[cell]
    probability = functional.conv2d(outputs.mask[image : image + 1], kernel[:, :, None, None])[0].sigmoid()
    masks = probability > 0.5
    area = masks.sum((1, 2)).float()
    large = area > strides_of_cells
    masks, probability, score, classes, area = (t[large] for t in (masks, probability, score, classes, area))
    score = score * ((probability * masks.float()).sum((1, 2)) / area)
    order = score.argsort(descending=True)[:nms_pre]
    masks, probability, score, classes = (t[order] for t in (masks, probability, score, classes))
    score = plain_matrix_nms(masks, classes, score)
    kept = score >= update_threshold
    probability, score, classes = probability[kept], score[kept], classes[kept]
    order = score.argsort(descending=True)[:max_per_image]
    probability, score, classes = probability[order], score[order], classes[order]
    whole = resized(probability[None], size=(4 * probability.shape[1], 4 * probability.shape[2]))
    whole = resized(whole[:, :, : image_size[0], : image_size[1]], size=output_size)[0]
    return Found(score, classes, whole > 0.5)
