"""Trains a selector under the seed guard, or goes on with an interrupted training."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sapnet_pipe.stages.select.batches.bag_images import BagImages
from sapnet_pipe.stages.select.batches.batch import SelectBatch
from sapnet_pipe.stages.select.batches.loader import TrainBatches
from sapnet_pipe.stages.select.config import SelectConfig
from sapnet_pipe.stages.select.feature_source import FeatureSource
from sapnet_pipe.stages.select.method.completeness import completeness_loss, completeness_target
from sapnet_pipe.stages.select.method.psm_prm import negative_loss, prm_loss, psm_loss
from sapnet_pipe.stages.select.network.model import Selector, SelectorOutput
from sapnet_pipe.stages.select.seed_guard import AtChanceError, SeedGuard, judged_at, learning_sign, seed_of_attempt
from sapnet_pipe.stages.training.backbone_config import BackboneConfig
from sapnet_pipe.stages.training.checkpoint import load_checkpoint
from sapnet_pipe.stages.training.distributed import all_reduce_sum, current_world, is_main_process, world_size
from sapnet_pipe.stages.training.loop import TrainResult, resolve_length, train
from sapnet_pipe.stages.training.metric_log import MetricLog, metrics_size, read_records
from sapnet_pipe.stages.training.run_files import CHECKPOINT

EVENT = "seed_guard"
SHORTER = "--preset small, or smaller train.max_iterations, image.short_side and image.long_side"
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Learned:
    """A trained selector.

    Attributes:
        bag_accuracy: Balanced accuracy of the bags' classes over the last steps.
        object_accuracy: How often objects scored above negatives; None without negatives.
        verdict: The one of them that shows learning, its value, and what chance gives. chance: The latter.
        at_chance: The guard's verdict at the end: nothing was learnt, whatever the labels look like.
        restarts: One record per failed attempt, as in metrics.jsonl.
    """

    model: Selector
    result: TrainResult
    bag_accuracy: float
    object_accuracy: float | None
    verdict: str
    chance: float
    at_chance: bool
    restarts: list[dict[str, Any]]
    backbone: BackboneConfig


def learn(
    images: BagImages,
    num_classes: int,
    config: SelectConfig,
    source: FeatureSource,
    out: Path,
    *,
    resume: bool,
    quiet: bool,
) -> Learned:
    """Train on the bags of `images`, restarting from another seed while the bags stay at chance.

    Args:
        num_classes: Classes of the store, also those without a bag.
        source: What the selector sees of the images.
    Raises: UserError as `stages.training.loop.train`.
    """
    length = resolve_length(config.train, len(images))
    present = len(np.unique(images.class_index))
    attempt, resume = _attempt(out, config.seed, resume)
    while True:
        seed = seed_of_attempt(config.seed, attempt)
        torch.manual_seed(seed)
        provider, backbone = source.provider(resume=resume)
        model = Selector(provider, num_classes, config)
        left = config.guard.max_restarts - attempt
        sign = learning_sign(model.accuracy, model.object_accuracy, present, config.guard.factor)
        guard = SeedGuard(config.guard, sign, judged_at(config.guard.after, length.max_iterations), left)
        try:
            result = train(
                model=model,
                loss_fn=StepLosses(config),
                batch_at=TrainBatches(images, config.image, length.batch_size, seed, current_world(), source.reader),
                config=length,
                out=out,
                seed=seed,
                device=config.device,
                resume=resume,
                quiet=quiet,
                on_step=guard,
                keep_metrics=attempt > 0,
                shorter=SHORTER,
            )
        except AtChanceError as error:
            _record(out, error, attempt, seed)
            attempt, resume = attempt + 1, False
            continue
        return Learned(
            model=model,
            result=result,
            bag_accuracy=model.accuracy.balanced(),
            object_accuracy=None if model.object_accuracy is None else model.object_accuracy.value(),
            verdict=str(sign),
            chance=sign.chance,
            at_chance=config.guard.enabled and sign.is_chance(),
            restarts=_restarts(out),
            backbone=backbone,
        )


class StepLosses:
    """``loss_fn`` for `stages.training.loop.train`: weighted losses, and the share of bags of the right class.

    All are divided by the bags of the whole batch over the number of processes, so that their mean over the processes
    is the value of the whole batch.
    """

    def __init__(self, config: SelectConfig) -> None:
        self.config = config

    def __call__(self, net: nn.Module, batch: SelectBatch) -> dict[str, Tensor]:
        output: SelectorOutput = net(batch)
        bag = output.scores.sum(dim=1)  # (N, C + 1)
        bags = batch.whole.bags / world_size()
        values = {
            "loss_psm": self.config.psm_weight * psm_loss(output.scores, batch.class_index, batch.valid, num_bags=bags),
            "bag_accuracy": (bag.argmax(dim=1) == batch.class_index).sum() / bags,
        }
        weights = output.class_scores.sum(dim=1).detach()
        if output.completeness is not None:
            chosen = output.box if output.prm is None else output.prm.box
            wanted = completeness_target(batch.boxes, chosen, self.config.completeness.target)
            loss = completeness_loss(output.completeness, wanted, batch.valid, weights, bags)
            values["loss_completeness"] = self.config.completeness.weight * loss
        if output.prm is not None:
            positive = prm_loss(output.prm.scores, batch.class_index, output.prm.valid, weights, bags)
            values["loss_prm"] = self.config.prm.positive_weight * positive
            if self.config.negatives.enabled:
                logits = output.prm.negative_logits
                beta = all_reduce_sum(weights.sum()) / max(1, batch.whole.bags) if self.config.prm.beta else 1.0
                negative = negative_loss(logits, logits.new_ones(len(logits)), bags, beta)
                values["loss_negative"] = self.config.prm.negative_weight * negative
        return values


def cannot_learn(images: BagImages, config: SelectConfig) -> str | None:
    """Why these bags could teach a selector nothing, or None.

    With one class every bag is classified right by a constant answer, and only negatives tell objects from anything.
    """
    if len(np.unique(images.class_index)) > 1 or (config.prm.enabled and config.negatives.enabled):
        return None
    return "all bags are of one class, and this method has no negatives to tell them from"


def _attempt(out: Path, seed: int, resume: bool) -> tuple[int, bool]:
    """The attempt that the checkpoint belongs to, and whether there is one to resume."""
    path = out / CHECKPOINT
    if not resume or not path.is_file():
        return 0, False
    found = load_checkpoint(path).seed
    attempt = next((k for k in range(1000) if seed_of_attempt(seed, k) == found), 0)
    return attempt, True


def _record(out: Path, error: AtChanceError, attempt: int, seed: int) -> None:
    """Say in metrics.jsonl that an attempt failed; the next one's records follow."""
    if not is_main_process():
        return
    record: dict[str, float | int | str] = {
        "event": EVENT,
        "iteration": error.iteration,
        "attempt": attempt,
        "seed": seed,
        "accuracy": round(error.value, 6),
        "chance": round(error.chance, 6),
    }
    _LOG.warning("%s: starting anew from another seed", error)
    with MetricLog(out, metrics_size(out), error.iteration) as log:
        log.write(record, error.iteration)


def _restarts(out: Path) -> list[dict[str, Any]]:
    if not is_main_process():
        return []
    return [record for record in read_records(out) if record.get("event") == EVENT]
