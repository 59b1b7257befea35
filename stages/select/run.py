"""Stage two: a bag store and photographs in, one chosen mask per point out."""

import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from data.bag_store import BagStore
from data.bag_table import BagTable
from data.coco import InstanceDataset
from data.errors import UserError
from stages.metric_log import MetricLog, metrics_size
from stages.select.bag_images import BagImages, group_images, require_images
from stages.select.config import TRAINED_METHODS, SelectConfig, for_method
from stages.select.export import export_labels
from stages.select.learn import Learned, learn
from stages.select.quality import baselines, compare_choices, mask_overlaps, oracle_choice
from stages.select.rules import as_selection, select_by_rule
from stages.select.selection import Selection, select_all
from stages.train_config import lr_line

LABELS = "pseudo_labels.json"


@dataclass(frozen=True)
class SelectSummary:
    """What a run did.

    Attributes:
        labels: Pseudo labels written, one per point.
        pseudo_labels: Where.
        dropped: What stage one could not make a bag of, by reason; stage two drops nothing.
        training: Iterations, seconds, bag accuracy, chance, the seed guard's verdict and restarts; None for the
            methods that need no training.
        quality: With the truth at hand, mask quality of ``chosen``, of SAM's and other fixed choices, of ``psm`` and
            of the ``oracle``; else None.
    """

    method: str
    images: int
    points: int
    masks: int
    labels: int
    pseudo_labels: Path
    dropped: Mapping[str, int]
    training: dict[str, Any] | None
    quality: dict[str, Any] | None
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return asdict(self) | {"pseudo_labels": str(self.pseudo_labels), "dropped": dict(self.dropped)}


def run(
    store: BagStore,
    images_dir: Path,
    out: Path,
    config: SelectConfig,
    *,
    truth: InstanceDataset | None = None,
    resume: bool = False,
    quiet: bool = False,
) -> SelectSummary:
    """Choose a mask for every point and write ``out/pseudo_labels.json``.

    Args:
        out: The run folder, which exists.
        truth: Masks whose annotation ids are the point ids; for measuring, and for the method oracle.
        resume: Go on with an interrupted training.
    Raises: UserError for images or shards that cannot be read, or settings that cannot work.
    """
    began = time.perf_counter()
    config = for_method(config)
    table = store.read_table()
    if not len(table):
        raise UserError(store.folder, "points", 0, "a store without a bag", "Make bags for at least one point")
    images = group_images(table, store.categories, images_dir, store.folder)
    overlap = None if truth is None else mask_overlaps(store, table, truth)
    selection, learned = _select(images, len(store.categories), overlap, config, out, resume, quiet)
    quality = None
    if truth is not None and overlap is not None:
        quality = _quality(store, table, selection, overlap, truth, learned is not None)
    info = {"method": config.method, "seed": config.seed, "bags": store.fingerprint}
    labels = export_labels(out / LABELS, store, images, selection, info=info)
    _record(out, selection, learned, quality)
    return SelectSummary(
        method=config.method,
        images=len(images),
        points=len(table),
        masks=len(table.score),
        labels=labels,
        pseudo_labels=out / LABELS,
        dropped=dict(store.manifest.dropped),
        training=None if learned is None else _training(learned, config),
        quality=quality,
        seconds=time.perf_counter() - began,
    )


def _select(
    images: BagImages,
    num_classes: int,
    overlap: NDArray[np.float32] | None,
    config: SelectConfig,
    out: Path,
    resume: bool,
    quiet: bool,
) -> tuple[Selection, Learned | None]:
    """The choice of the configured method."""
    if config.method in TRAINED_METHODS:
        require_images(images)
        if not quiet:
            tqdm.write(lr_line(config.train), file=sys.stderr)
        learned = learn(images, num_classes, config, out, resume=resume, quiet=quiet)
        return select_all(learned.model, images, config, quiet=quiet), learned
    if config.method != "oracle":
        return select_by_rule(images.table, config.method), None
    if overlap is None:
        mend = "Give the true masks with --truth, or choose another method"
        raise UserError("settings", "method", "oracle", "which needs the truth", mend)
    return as_selection(images.table, oracle_choice(images.table, overlap)), None


def _quality(
    store: BagStore,
    table: BagTable,
    selection: Selection,
    overlap: NDArray[np.float32],
    truth: InstanceDataset,
    trained: bool,
) -> dict[str, Any]:
    choices = baselines(table) | {"chosen": selection.bag_index, "oracle": oracle_choice(table, overlap)}
    if trained:
        choices["psm"] = selection.psm_index
    return {name: quality.to_dict() for name, quality in compare_choices(store, table, choices, truth).items()}


def _training(learned: Learned, config: SelectConfig) -> dict[str, Any]:
    return {
        **learned.result.to_dict(),
        "bag_accuracy": learned.bag_accuracy,
        "chance": learned.chance,
        "at_chance": learned.at_chance,
        "restarts": learned.restarts,
        "learning_rate": lr_line(config.train),
        "backbone": learned.backbone.model_dump(mode="json"),
    }


def _record(out: Path, selection: Selection, learned: Learned | None, quality: Mapping[str, Any] | None) -> None:
    """The last record of metrics.jsonl: what the selection is worth."""
    iteration = learned.result.iterations if learned else 0
    record: dict[str, float | int | str] = {"event": "selection", "iteration": iteration}
    record["mean_score"] = float(selection.score.mean())
    if learned is not None:
        record |= {"bag_accuracy": learned.bag_accuracy, "chance": learned.chance, "at_chance": int(learned.at_chance)}
    for name, figures in (quality or {}).items():
        record[f"miou_{name}"] = figures["miou"]
    kept = metrics_size(out) if learned is not None else 0
    with MetricLog(out, kept, iteration) as log:
        log.write(record, iteration)
