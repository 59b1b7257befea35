"""Trains a selector under the seed guard, or goes on with an interrupted training."""

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from data.files import disk_errors, read_json, write_json
from stages.backbone_config import BackboneConfig, build_backbone
from stages.checkpoint import checkpoint_path, load_checkpoint
from stages.metric_log import MetricLog, metrics_size
from stages.processes import is_first, own_share
from stages.select.bag_images import BagImages
from stages.select.batches import TrainBatches
from stages.select.config import SelectConfig
from stages.select.frozen.source import FrozenSource
from stages.select.model import Selector
from stages.select.seed_guard import AtChanceError, SeedGuard, judged_at, learning_sign, seed_of_attempt
from stages.select.step_losses import StepLosses
from stages.training import TrainResult, resolve_length, train

EVENT = "seed_guard"
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
    out: Path,
    *,
    resume: bool,
    quiet: bool,
    frozen: FrozenSource | None = None,
) -> Learned:
    """Train on the bags of `images`, restarting from another seed while the bags stay at chance.

    Args:
        num_classes: Classes of the store, also those without a bag.
        frozen: Features to train on in place of the photographs.
    Raises: UserError as `stages.training.train`.
    """
    length = resolve_length(config.train, len(images))
    present = len(np.unique(images.class_index))
    attempt, resume = _attempt(out, config.seed, resume)
    look = None if frozen is None else frozen.look
    while True:
        seed = seed_of_attempt(config.seed, attempt)
        if frozen is None:
            model, backbone = _build(num_classes, config, seed, out, resume)
        else:
            torch.manual_seed(seed)
            model, backbone = frozen.build(num_classes), frozen.backbone
        left = config.guard.max_restarts - attempt
        sign = learning_sign(model, present, config.guard.factor)
        guard = SeedGuard(config.guard, sign, judged_at(config.guard.after, length.max_iterations), left)
        try:
            result = train(
                model=model,
                loss_fn=StepLosses(config),
                batch_at=TrainBatches(images, config.image, length.batch_size, seed, own_share(), look),
                config=length,
                out=out,
                seed=seed,
                device=config.device,
                resume=resume,
                quiet=quiet,
                on_step=guard,
                keep_metrics=attempt > 0,
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


def cannot_learn(images: BagImages, config: SelectConfig) -> str | None:
    """Why these bags could teach a selector nothing, or None.

    With one class every bag is classified right by a constant answer, and only negatives tell objects from anything.
    """
    if len(np.unique(images.class_index)) > 1 or (config.prm.enabled and config.negatives.enabled):
        return None
    return "all bags are of one class, and this method has no negatives to tell them from"


def _build(
    num_classes: int, config: SelectConfig, seed: int, out: Path, resume: bool
) -> tuple[Selector, BackboneConfig]:
    """The network with its first weights; a resumed run gets the backbone that it began with."""
    file = out / "backbone.json"
    known = resume and file.is_file()
    wanted = BackboneConfig.model_validate(read_json(file)) if known else config.backbone
    torch.manual_seed(seed)
    backbone, settled = build_backbone(wanted, warn=_LOG.warning, load=not known)
    if not known and is_first():
        write_json(file, settled.model_dump(mode="json"), indent=2)
    return Selector(backbone, num_classes, config), settled


def _attempt(out: Path, seed: int, resume: bool) -> tuple[int, bool]:
    """The attempt that the checkpoint belongs to, and whether there is one to resume."""
    path = checkpoint_path(out)
    if not resume or not path.is_file():
        return 0, False
    found = load_checkpoint(path).seed
    attempt = next((k for k in range(1000) if seed_of_attempt(seed, k) == found), 0)
    return attempt, True


def _record(out: Path, error: AtChanceError, attempt: int, seed: int) -> None:
    """Say in metrics.jsonl that an attempt failed; the next one's records follow."""
    if not is_first():
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
    path = out / "metrics.jsonl"
    if not is_first():
        return []
    with disk_errors(path):
        records = [json.loads(line) for line in path.read_text().splitlines()]
    return [record for record in records if record.get("event") == EVENT]
