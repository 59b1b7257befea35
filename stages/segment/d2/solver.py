"""Optimiser and schedule: Detectron2's, and what it lacks for our settings (AdamW, one norm over all gradients)."""

from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.solver import build_lr_scheduler as detectron2_scheduler
from detectron2.solver.build import get_default_optimizer_params, maybe_add_gradient_clipping
from detectron2.utils.events import get_event_storage, has_event_storage
from torch import nn

from data.errors import UserError
from stages.segment.d2.config import COSINE, FULL_MODEL
from stages.train_config import TrainConfig, lr_at


def build_optimizer(cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
    """SGD or AdamW as ``SOLVER`` says; gradients are clipped inside the step, after a loss scaler has undone itself."""
    solver = cfg.SOLVER
    groups = get_default_optimizer_params(
        model,
        base_lr=solver.BASE_LR,
        weight_decay_norm=solver.WEIGHT_DECAY_NORM,
        bias_lr_factor=solver.BIAS_LR_FACTOR,
        weight_decay_bias=solver.WEIGHT_DECAY_BIAS,
    )
    if not groups:
        raise UserError("settings", "backbone", "all frozen", "nothing to train", "Freeze fewer stages")
    optimizer = _optimizer(solver, groups)
    if not solver.CLIP_GRADIENTS.ENABLED:
        return optimizer
    if solver.CLIP_GRADIENTS.CLIP_TYPE != FULL_MODEL:
        return maybe_add_gradient_clipping(cfg, optimizer)
    optimizer.register_step_pre_hook(_FullModelClip(solver.CLIP_GRADIENTS.CLIP_VALUE))
    return optimizer


def build_lr_scheduler(cfg: CfgNode, optimizer: torch.optim.Optimizer) -> Any:
    """Detectron2's schedule of that name, or the half cosine that begins after the warm-up."""
    solver = cfg.SOLVER
    if solver.LR_SCHEDULER_NAME != COSINE:
        return detectron2_scheduler(cfg, optimizer)
    schedule = TrainConfig(
        max_iterations=solver.MAX_ITER,
        lr=1.0,
        scheduler="cosine",
        warmup_iterations=solver.WARMUP_ITERS,
        warmup_factor=solver.WARMUP_FACTOR,
    )
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda iteration: lr_at(schedule, iteration))


def _optimizer(solver: CfgNode, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    if solver.OPTIMIZER == "ADAMW":
        return torch.optim.AdamW(groups, lr=solver.BASE_LR, weight_decay=solver.WEIGHT_DECAY)
    if solver.OPTIMIZER != "SGD":
        mend = "Use SGD or ADAMW"
        raise UserError("settings", "detectron2.SOLVER.OPTIMIZER", solver.OPTIMIZER, "which is not known", mend)
    return torch.optim.SGD(
        groups,
        lr=solver.BASE_LR,
        momentum=solver.MOMENTUM,
        nesterov=solver.NESTEROV,
        weight_decay=solver.WEIGHT_DECAY,
    )


class _FullModelClip:
    """Scales all gradients down where their common norm passes a limit."""

    def __init__(self, limit: float) -> None:
        self._limit = limit

    def __call__(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        norm = torch.nn.utils.clip_grad_norm_(parameters, self._limit)
        if has_event_storage():
            get_event_storage().put_scalar("grad_norm", norm.item())
