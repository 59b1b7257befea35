"""Optimiser and schedule: Detectron2's, and what it lacks for our settings (AdamW, one norm over all gradients)."""

from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.solver import build_lr_scheduler as detectron2_scheduler
from detectron2.solver.build import get_default_optimizer_params, maybe_add_gradient_clipping
from detectron2.utils.events import get_event_storage, has_event_storage
from torch import nn

from sapnet_pipe.data.errors import UserError
from sapnet_pipe.stages.segment.detectron2.config import COSINE, FULL_MODEL, MILESTONES
from sapnet_pipe.stages.segment.weights.checkpoint_keys import in_our_order
from sapnet_pipe.stages.training.config import TrainConfig, lr_at


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
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    decayed = {id(p) for group in groups if group.get("weight_decay", solver.WEIGHT_DECAY) for p in group["params"]}
    ordered = sorted(
        (trained[name] for name in in_our_order(trained)),
        key=lambda parameter: (parameter.ndim <= 1, parameter.ndim <= 1 and id(parameter) not in decayed),
    )
    optimizer.register_step_pre_hook(_FullModelClip(ordered, solver.CLIP_GRADIENTS.CLIP_VALUE))
    return optimizer


def build_lr_scheduler(cfg: CfgNode, optimizer: torch.optim.Optimizer) -> Any:
    """The schedule of `lr_at` where it is one of its two (milestones, or a half cosine after the warm-up).

    Others are Detectron2's. Its own milestones agree with ours, but refuse a trial of three steps.
    """
    solver = cfg.SOLVER
    if solver.LR_SCHEDULER_NAME not in (COSINE, MILESTONES) or solver.WARMUP_METHOD != "linear":
        return detectron2_scheduler(cfg, optimizer)
    schedule = TrainConfig(
        max_iterations=solver.MAX_ITER,
        lr=1.0,
        scheduler="cosine" if solver.LR_SCHEDULER_NAME == COSINE else "step",
        milestones=tuple(solver.STEPS),
        gamma=solver.GAMMA,
        warmup_iterations=solver.WARMUP_ITERS,
        warmup_factor=solver.WARMUP_FACTOR,
    )
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda iteration: lr_at(schedule, iteration))


def _optimizer(solver: CfgNode, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    fused = not solver.AMP.ENABLED  # fused steps would see gradients that are still scaled when they are clipped
    if solver.OPTIMIZER == "ADAMW":
        return torch.optim.AdamW(groups, lr=solver.BASE_LR, weight_decay=solver.WEIGHT_DECAY, fused=fused)
    if solver.OPTIMIZER != "SGD":
        hint = "Use SGD or ADAMW"
        raise UserError("settings", "detectron2.SOLVER.OPTIMIZER", solver.OPTIMIZER, "which is not known", hint)
    return torch.optim.SGD(
        groups,
        lr=solver.BASE_LR,
        momentum=solver.MOMENTUM,
        nesterov=solver.NESTEROV,
        weight_decay=solver.WEIGHT_DECAY,
        fused=fused,
    )


class _FullModelClip:
    """Scales all gradients down where their common norm passes a limit.

    Args:
        parameters: In the order of the builtin engine's, so that the norm has the same bits.
    """

    def __init__(self, parameters: list[nn.Parameter], limit: float) -> None:
        self._parameters, self._limit = parameters, limit

    def __call__(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        norm = torch.nn.utils.clip_grad_norm_(self._parameters, self._limit)
        if has_event_storage():
            get_event_storage().put_scalar("grad_norm", norm.item())
