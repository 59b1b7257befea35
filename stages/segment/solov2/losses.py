"""SOLOv2's losses, with SAPNet's multi-mask proposals supervision (MPS).

B images, S cells over all levels, K classes, D kernel channels, n positive (cell, instance) pairs of an image.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.ops import sigmoid_focal_loss

from sapnet_pipe.stages.segment.solov2.model import Predictions
from sapnet_pipe.stages.segment.solov2.targets import ImageTargets
from sapnet_pipe.stages.training.distributed import all_reduce_sum, loss_normalizer, world_size

DICE_EPS = 0.001


def solov2_losses(
    predictions: Predictions,
    targets: Sequence[ImageTargets],
    *,
    dice_weight: float = 3.0,
    focal_weight: float = 1.0,
    focal_alpha: float = 0.25,
    focal_gamma: float = 2.0,
    mps_weight: float = 0.25,
) -> dict[str, Tensor]:
    """Weighted losses of a batch, in float32.

    The mask loss is the mean over all pairs of the batch; without any it is 0 and still attached to every prediction,
    so that a batch of empty images trains (and no DDP rank waits for gradients that never come). With several processes
    the batch is that of all of them: the mean of their losses is its loss.

    Args:
        targets: One per image.
        mps_weight: gamma of Eq. 11 of the supplement; 0 leaves the alternates out.
    Returns: ``loss_ins`` and ``loss_cate``, scalars.
    """
    cate_logits = torch.cat([logits.flatten(2) for logits in predictions.cate_logits], dim=2).float()  # (B, K, S)
    trained = _trained_levels(predictions.kernels, targets)
    kernels = torch.cat([kernel.flatten(2) for kernel in trained], dim=2).float()  # (B, D, S)
    category = torch.stack([target.category for target in targets])
    per_image = zip(kernels, predictions.mask_features.float(), targets, strict=True)
    with torch.autocast(cate_logits.device.type, enabled=False):
        mask_loss = torch.cat([mask_losses(k, f, target, mps_weight) for k, f, target in per_image])
        loss_ins = mask_loss.sum() / loss_normalizer(mask_loss.new_tensor(len(mask_loss)))
        loss_cate = category_loss(cate_logits, category, focal_alpha, focal_gamma)
    return {"loss_ins": dice_weight * loss_ins, "loss_cate": focal_weight * loss_cate}


def _trained_levels(kernels: Sequence[Tensor], targets: Sequence[ImageTargets]) -> list[Tensor]:
    """Cut levels without a positive cell off the graph: the backward pass through their towers would be all zeros.

    Without any positive cell all stay attached. Only on a CPU: on a GPU, asking for the cells would wait for it.
    """
    cells = torch.cat([target.cell for target in targets])
    if cells.device.type != "cpu" or not len(cells):
        return list(kernels)
    ends = torch.tensor([kernel.shape[-2] * kernel.shape[-1] for kernel in kernels]).cumsum(0)
    used = set(torch.bucketize(cells, ends, right=True).tolist())
    return [kernel if level in used else kernel.detach() for level, kernel in enumerate(kernels)]


def category_loss(cate_logits: Tensor, category: Tensor, alpha: float, gamma: float) -> Tensor:
    """Focal loss over all cells and classes, divided by the number of positive cells + 1.

    Args:
        cate_logits: (B, K, S).
        category: (B, S) class index, K for background.
    """
    num_classes = cate_logits.shape[1]
    one_hot = (category[:, None] == torch.arange(num_classes, device=category.device)[:, None]).to(cate_logits.dtype)
    focal = sigmoid_focal_loss(cate_logits, one_hot, alpha=alpha, gamma=gamma, reduction="sum")
    positives = all_reduce_sum((category < num_classes).sum())
    return focal * world_size() / (positives + 1)


def mask_losses(kernels: Tensor, mask_features: Tensor, targets: ImageTargets, mps_weight: float) -> Tensor:
    """Loss of each positive pair of one image: Dice(pseudo mask) + mps_weight * mean Dice(alternates), Eq. 11.

    An instance without alternates has the first term alone.

    Args:
        kernels: (D, S).
        mask_features: (D, h, w).
    Returns: (n,).
    """
    logits = kernels[:, targets.cell].T @ mask_features.flatten(1)  # (n, h * w)
    used = targets.masks if mps_weight else targets.masks[: len(targets.alternates)]
    dice = pairwise_dice(logits, used.flatten(1))
    loss = dice.gather(1, targets.instance[:, None])[:, 0]
    if mps_weight and targets.alternates.shape[1]:
        rows = targets.alternates[targets.instance]  # (n, A)
        there = (rows >= 0).to(dice.dtype)
        extra = (dice.gather(1, rows.clamp(min=0)) * there).sum(1) / there.sum(1).clamp(min=1)
        loss = loss + mps_weight * extra
    return loss


def pairwise_dice(logits: Tensor, masks: Tensor) -> Tensor:
    """Dice loss of every prediction against every mask: 1 - 2 sum(p t) / (sum p^2 + sum t^2 + 2 eps).

    One matrix product: the few masks of an image are never copied for the many cells that share them.

    Args:
        logits: (n, P) float32, before the sigmoid.
        masks: (M, P), 0 or 1.
    Returns: (n, M) in [0, 1].
    """
    scores = logits.sigmoid()
    target = masks.to(scores.dtype)
    overlap = scores @ target.T
    return 1 - 2 * overlap / ((scores * scores).sum(1)[:, None] + target.sum(1) + 2 * DICE_EPS)
