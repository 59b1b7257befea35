"""One training loop for the selector and the segmenter, on Lightning Fabric."""

import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies import DDPStrategy, Strategy
from torch import nn

from sapnet_pipe.data.errors import UserError
from sapnet_pipe.data.progress import progress_bar
from sapnet_pipe.stages.training.checkpoint import Checkpoint, load_checkpoint, load_weights
from sapnet_pipe.stages.training.config import TrainConfig, lr_at, resolve_length
from sapnet_pipe.stages.training.devices import limit_threads, pick_device
from sapnet_pipe.stages.training.distributed import any_rank, barrier, is_main_process, local_world_size, world_size
from sapnet_pipe.stages.training.forecast import Forecast
from sapnet_pipe.stages.training.interruption import Interruption, finishing_steps
from sapnet_pipe.stages.training.loader import load_in_order
from sapnet_pipe.stages.training.metric_log import MetricLog, metrics_size
from sapnet_pipe.stages.training.run_files import CHECKPOINT
from sapnet_pipe.stages.training.step import Batch, LossFn, TrainStep

__all__ = ["TrainConfig", "TrainResult", "lr_at", "resolve_length", "train"]

OnStep = Callable[[int, dict[str, float]], None]
_NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)


@dataclass(frozen=True)
class TrainResult:
    """What a training did.

    Attributes:
        iterations: Steps done in all. skipped_steps: Of a non-finite loss.
        seconds: That it took since it was begun or resumed. estimated_seconds: What was said of that after its first
            steps; None where there were too few.
        metrics: The last record. checkpoint: Where it lies.
    """

    iterations: int
    skipped_steps: int
    seconds: float
    estimated_seconds: float | None
    metrics: dict[str, float]
    checkpoint: Path

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return {**asdict(self), "checkpoint": str(self.checkpoint)}


def train(
    *,
    model: nn.Module,
    loss_fn: LossFn,
    batch_at: Callable[[int], Batch],
    config: TrainConfig,
    out: Path,
    seed: int,
    device: str,
    resume: bool,
    quiet: bool,
    on_step: OnStep | None = None,
    keep_metrics: bool = False,
    shorter: str = "",
) -> TrainResult:
    """Train `model` in place until `config.max_iterations` steps are done, writing the run folder `out`.

    Of several processes each is given its share of the batch, gradients and values are averaged, and the first writes.

    Args:
        model: Trained where ``requires_grad``; left on the device it was trained on.
        loss_fn: Called with the model (call it, not its methods) and a batch on the device; returns named scalars.
            Those whose name starts with ``loss`` are summed and minimised, the others are only logged. With several
            processes their mean must be the value of the whole batch (see `distributed.loss_normalizer`).
        batch_at: A pure function of the iteration, so that a resumed run sees the same batches. Runs in worker
            processes if ``config.workers``. A batch is tensors in tuples, lists or dicts, or has ``.to(device)``.
        resume: Go on from ``out/checkpoints/last.pt`` if it is there; else start anew.
        on_step: Called after every step with its values, and its checkpoint if one is due; what it raises ends the
            training. A resumed training calls it first for the step that it goes on after, with no values.
        shorter: What to set for a shorter training; said with the time that this one will take.
        keep_metrics: A new start appends to metrics.jsonl (a restart by the seed guard) instead of emptying it.
    Returns: TrainResult. Torch's global seed is set from (seed, iteration) before every step.
    Raises: UserError for a device, file or checkpoint at fault, or a loss that stays non-finite; KeyboardInterrupt once
        the step in progress is finished and saved, for Ctrl-C or SIGTERM.
    """
    if config.max_iterations < 1:
        raise ValueError("max_iterations must be resolved first, see resolve_length")
    limit_threads()
    target = pick_device(device)
    fabric = _fabric(target, config)
    fabric.launch()
    optimizer, path = _optimizer(model, config, target), out / CHECKPOINT
    restored = load_checkpoint(path) if resume and path.is_file() else None
    if restored is not None:
        load_weights(model, restored.model, path)
    net, optim = fabric.setup(model, optimizer)
    if restored is not None:
        _restore(fabric, optim, restored, path)
    start = restored.iteration if restored else 0
    kept = restored.metrics_bytes if restored else metrics_size(out) if keep_metrics else 0
    net.train()
    barrier()  # nobody reads the checkpoint any more
    with finishing_steps(quiet=quiet) as interruption, MetricLog(out, kept, start, silent=not is_main_process()) as log:
        step = TrainStep(fabric, net, optim, loss_fn=loss_fn, config=config, seed=seed, log=log, path=path)
        if restored is None:
            step.save(0)
        else:
            step.restore(restored.progress)
        return _run(step, batch_at, start, config, quiet, on_step, interruption, shorter)


def _run(
    step: TrainStep,
    batch_at: Callable[[int], Batch],
    start: int,
    config: TrainConfig,
    quiet: bool,
    on_step: OnStep | None,
    interruption: Interruption,
    shorter: str,
) -> TrainResult:
    """Steps `start` to the end or to an interruption, with records and checkpoints."""
    if start > config.max_iterations:
        hint = "Give at least so many, or choose a new folder"
        raise UserError("settings", "train.max_iterations", config.max_iterations, f"but {start} are done", hint)
    if on_step is not None and start:  # the end may have come between the checkpoint and this
        on_step(start, {})
    began = saved = time.perf_counter()
    order, silent = range(start, config.max_iterations), quiet or not is_main_process()
    forecast = Forecast(len(order), step.fabric.device, shorter=shorter, quiet=silent)
    batches = load_in_order(batch_at, order, config.workers)
    bar = progress_bar(batches, total=len(order), desc="training", unit="it", quiet=silent)
    for iteration, batch in zip(order, bar, strict=True):
        record = step.step(iteration, batch)
        forecast.after_step()
        done = iteration + 1
        last = done == config.max_iterations
        if done % config.log_every == 0 or last:
            step.write_record(done)
            bar.set_postfix(loss=round(step.last.get("loss", 0.0), 3))
        stopping = any_rank(interruption.asked is not None, step.fabric.device)
        late = config.checkpoint_minutes and time.perf_counter() - saved >= 60 * config.checkpoint_minutes
        if done % config.checkpoint_every == 0 or last or stopping or late:
            step.save(done)
            saved = time.perf_counter()
        if on_step is not None:
            on_step(done, record)
        if stopping:
            barrier()  # the checkpoint is there
            raise KeyboardInterrupt
    barrier()  # the checkpoint is there
    seconds = time.perf_counter() - began
    return TrainResult(config.max_iterations, step.skipped, seconds, forecast.seconds, step.last, step.path)


def _fabric(device: torch.device, config: TrainConfig) -> Fabric:
    if device.type != "cuda" and config.precision == "16-mixed":
        hint = "Use 32-true or bf16-mixed, or a CUDA device"
        raise UserError("settings", "train.precision", config.precision, f"not possible on {device.type}", hint)
    count = world_size()
    if count > config.batch_size:
        hint = "Start fewer processes, or raise train.batch_size, which they share"
        raise UserError("settings", "train.batch_size", config.batch_size, f"less than the {count} processes", hint)
    devices: list[int] | int = [device.index] if device.type == "cuda" and device.index is not None else 1
    strategy: Strategy | str = "auto"
    if count > 1:
        devices, strategy = local_world_size(), DDPStrategy()
        warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")  # of 1x1 convolutions
    return Fabric(
        accelerator=device.type,
        devices=devices,
        num_nodes=count // local_world_size(),
        strategy=strategy,
        precision=config.precision,
    )


def _optimizer(model: nn.Module, config: TrainConfig, device: torch.device) -> torch.optim.Optimizer:
    """SGD or AdamW over what is trainable."""
    groups = decay_groups(model, config)
    if not groups:
        raise UserError("settings", "backbone", "all frozen", "nothing to train", "Freeze fewer stages")
    fused = device.type in ("cpu", "cuda") and config.precision != "16-mixed"  # Fabric cannot clip fused fp16 steps
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=config.lr, fused=fused)
    return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, fused=fused)


def decay_groups(model: nn.Module, config: TrainConfig) -> list[dict[str, Any]]:
    """The trainable parameters in groups: weights, then what else is decayed (`TrainConfig.decay`), then the rest."""
    of_norms = {id(p) for m in model.modules() if isinstance(m, _NORMS) for p in m.parameters(recurse=False)}
    groups: list[list[nn.Parameter]] = [[], [], []]
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        is_bias = name.endswith("bias") and id(parameter) not in of_norms
        decayed = config.decay == "all" or (config.decay == "biases" and is_bias)
        groups[0 if parameter.ndim > 1 else 1 if decayed else 2].append(parameter)
    decays = (config.weight_decay, config.weight_decay, 0.0)
    return [{"params": group, "weight_decay": decay} for group, decay in zip(groups, decays, strict=True) if group]


def _restore(fabric: Fabric, optim: Any, checkpoint: Checkpoint, path: Path) -> None:
    """Put optimiser and scaler back to the checkpoint's state."""
    try:
        optim.load_state_dict(checkpoint.optimizer)
    except (ValueError, KeyError) as error:
        hint = "Resume with the settings that the run was started with, or choose a new folder"
        raise UserError(path, "optimizer", "", f"does not fit these settings ({error})", hint) from error
    scaler = getattr(fabric._precision, "scaler", None)
    if scaler is not None and checkpoint.scaler:
        scaler.load_state_dict(checkpoint.scaler)
