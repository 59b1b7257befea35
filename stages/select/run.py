"""Stage two: a bag store and photographs in, one chosen mask per point out."""

import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from sapnet_pipe.data.bag_store.store import BagStore
from sapnet_pipe.data.bag_store.table import BagTable, baseline_choice
from sapnet_pipe.data.coco.instances import InstanceDataset
from sapnet_pipe.data.errors import UserError
from sapnet_pipe.data.evaluation.bag_overlaps import BagOverlaps, bag_overlaps
from sapnet_pipe.data.evaluation.mask_quality import ObjectOverlaps, summarise
from sapnet_pipe.data.evaluation.object_table import write_object_table
from sapnet_pipe.data.labels.explanations import Selection, open_explanations
from sapnet_pipe.stages.select.batches.bag_images import BagImages, group_images
from sapnet_pipe.stages.select.config import TRAINED_METHODS, SelectConfig, for_frozen, for_method, oracle_without_truth
from sapnet_pipe.stages.select.feature_source import FeatureSource, open_source
from sapnet_pipe.stages.select.frozen.source import takes_features_of_store
from sapnet_pipe.stages.select.learn import Learned, cannot_learn, learn
from sapnet_pipe.stages.select.selection.baselines import all_baselines, oracle_choice, select_baseline
from sapnet_pipe.stages.select.selection.export import export_labels
from sapnet_pipe.stages.select.selection.inference import select_all
from sapnet_pipe.stages.select.selection.quality import compare_choices
from sapnet_pipe.stages.training.config import lr_line
from sapnet_pipe.stages.training.devices import pick_device
from sapnet_pipe.stages.training.distributed import is_main_process
from sapnet_pipe.stages.training.failures import find_unreadable, unreadable_note
from sapnet_pipe.stages.training.metric_log import MetricLog, metrics_size
from sapnet_pipe.stages.training.run_files import EXPLANATIONS, OBJECTS, PSEUDO_LABELS

FALLBACK = "sam-top1"


@dataclass(frozen=True)
class SelectSummary:
    """What a run did.

    Attributes:
        method: That was asked for. source: That made the labels, which may be the one fallen back to.
        images_unreadable: Photographs that were left out, with their points.
        labels: Pseudo labels written, one per point.
        pseudo_labels: Where. explanations: Where the reasons are, if they were asked for.
        dropped: What stage one could not make a bag of, by reason; stage two drops nothing.
        training: Iterations, seconds, accuracies, chance, the seed guard's verdict and restarts; None for the methods
            that need no training, and where there was nothing to learn.
        fallback: Why the labels are SAM's top-1 though another method was asked for; None if they are not.
        matched: With the truth at hand, how many of its objects were found ``by_id`` and ``by_click``, are ``missing``
            in the bags, and ``extra`` points; else None.
        notes: What the user should know of that, one line each.
        quality: With the truth at hand, mask quality of ``chosen``, of SAM's and other fixed choices, of ``psm`` and
            of the ``oracle``; else None.
    """

    method: str
    source: str
    images: int
    images_unreadable: int
    points: int
    masks: int
    labels: int
    pseudo_labels: Path
    explanations: Path | None
    dropped: Mapping[str, int]
    training: dict[str, Any] | None
    fallback: str | None
    matched: dict[str, int] | None
    notes: list[str]
    quality: dict[str, Any] | None
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        explanations = None if self.explanations is None else str(self.explanations)
        paths = {"pseudo_labels": str(self.pseudo_labels), "explanations": explanations}
        return asdict(self) | {**paths, "dropped": dict(self.dropped)}


def run(
    store: BagStore,
    images_dir: Path,
    out: Path,
    config: SelectConfig,
    *,
    truth: InstanceDataset | None = None,
    explain: bool = False,
    resume: bool = False,
    quiet: bool = False,
) -> SelectSummary:
    """Choose a mask for every point and write ``out/pseudo_labels.json``, with `truth` also ``out/objects.parquet``.

    Of several processes that `torchrun` started all train and select, and the first one measures and writes; in the
    summaries of the others there is no label.

    Args:
        out: The run folder, which exists.
        truth: True masks of some of the objects; for measuring, and for the method oracle.
        explain: Also write ``out/explain.parquet``: every mask's scores at every step (`data.labels.explanations`).
        resume: Go on with an interrupted training.
    Raises: UserError for images or shards that cannot be read, or settings that cannot work.
    """
    began = time.perf_counter()
    config = for_frozen(for_method(config))
    store, images, lost = _readable(store, images_dir, config, quiet)
    table = images.table
    overlaps = None if truth is None else bag_overlaps(store, table, truth)
    job = _Job(store, images, len(store.categories), config, out, explain, resume, quiet or not is_main_process())
    outcome = job.select(None if overlaps is None else overlaps.iou.astype(np.float32))
    quality, labels = None, 0
    if outcome.selection is not None:
        if overlaps is not None:
            compared = _compared(store, table, outcome.selection, overlaps)
            quality = {name: summarise(of, overlaps.match).to_dict() for name, of in compared.items()}
            write_object_table(out / OBJECTS, compared)
        info = _info(store, config, outcome)
        labels = export_labels(out / PSEUDO_LABELS, store, images, outcome.selection, outcome.source, info=info)
        _log_selection(out, outcome, outcome.selection, quality)
    return SelectSummary(
        method=config.method,
        source=outcome.source,
        images=len(images),
        points=len(table),
        masks=len(table.masks),
        labels=labels,
        pseudo_labels=out / PSEUDO_LABELS,
        explanations=out / EXPLANATIONS if explain else None,
        dropped=dict(store.manifest.dropped),
        training=None if outcome.learned is None else _training(outcome.learned, config),
        fallback=outcome.fallback,
        matched=None if overlaps is None else overlaps.match.counts(),
        images_unreadable=len(lost),
        notes=[*unreadable_note(lost, len(images) + len(lost)), *(() if overlaps is None else overlaps.match.notes)],
        quality=quality,
        seconds=time.perf_counter() - began,
    )


def _images(store: BagStore, images_dir: Path) -> BagImages:
    """The bags by image. Raises: UserError if there is none."""
    table = store.read_table()
    if not len(table):
        hint = "Make bags for at least one point, of photographs that can be read"
        raise UserError(store.folder, "points", 0, "so there is nothing to choose from", hint)
    return group_images(table, store.categories, images_dir, store.folder, store.manifest.identity.depth)


def _readable(
    store: BagStore, images_dir: Path, config: SelectConfig, quiet: bool
) -> tuple[BagStore, BagImages, dict[int, UserError]]:
    """The bags whose photographs can be read where they are needed, and the errors of the others by image id.

    Raises: UserError if the others are more than is allowed.
    """
    images = _images(store, images_dir)
    if config.method not in TRAINED_METHODS or takes_features_of_store(store, config):
        return store, images, {}
    pick_device(config.device)  # an error here need not wait for all photographs
    records = [images.record(index) for index in range(len(images))]
    rate, source = config.max_failure_rate, images.source
    silent = quiet or not is_main_process()
    lost = find_unreadable(records, images.images_dir, source=source, rate=rate, quiet=silent)
    if lost:
        store = store.without_images(lost)
        images = _images(store, images_dir)
    return store, images, lost


@dataclass(frozen=True)
class _Outcome:
    """The selection, which only the first process has, and where it comes from.

    Attributes:
        source: The method that made it. learned: The training behind it, if there was one.
        fallback: Why the source is SAM's top-1 though another method was asked for.
    """

    selection: Selection | None
    source: str
    learned: Learned | None = None
    fallback: str | None = None


@dataclass(frozen=True)
class _Job:
    """One selection for all points, by the configured method."""

    store: BagStore
    images: BagImages
    num_classes: int
    config: SelectConfig
    out: Path
    explain: bool
    resume: bool
    quiet: bool

    def select(self, overlap: NDArray[np.float32] | None) -> _Outcome:
        """Choose; `overlap` with the true masks is what the oracle needs."""
        method = self.config.method
        if method not in TRAINED_METHODS:
            return _Outcome(self._collect(self._baseline(method, overlap)), method)
        source = open_source(self.store, self.images, self.config, self.out, quiet=self.quiet)
        learned, reason = self._learn(source)
        if learned is None or reason is not None:
            return _Outcome(self._collect(self._baseline(FALLBACK, overlap)), FALLBACK, learned, reason)
        parts = select_all(learned.model, self.images, self.config, quiet=self.quiet, reader=source.reader)
        return _Outcome(self._collect(parts), method, learned)

    def _learn(self, source: FeatureSource) -> tuple[Learned | None, str | None]:
        """A trained selector, and why it is of no use where there was nothing to learn or nothing was learnt."""
        if not self.quiet:
            tqdm.write(lr_line(self.config.train), file=sys.stderr)
        reason = cannot_learn(self.images, self.config)
        if reason is not None:
            return None, reason
        config, out = self.config, self.out
        learned = learn(self.images, self.num_classes, config, source, out, resume=self.resume, quiet=self.quiet)
        return learned, learned.verdict if learned.at_chance and config.guard.fallback else None

    def _baseline(self, method: str, overlap: NDArray[np.float32] | None) -> Iterator[Selection]:
        table = self.images.table
        if method != "oracle":
            return select_baseline(table, baseline_choice(table, method))
        if overlap is None:
            raise oracle_without_truth()
        return select_baseline(table, oracle_choice(table, overlap))

    def _collect(self, parts: Iterable[Selection]) -> Selection | None:
        """All of a selection, in the first process; its parts are explained on the way, if that is asked for."""
        kept = []
        with ExitStack() as stack:
            writer = None
            if self.explain and is_main_process():
                writer = stack.enter_context(open_explanations(self.out / EXPLANATIONS))
            for part in parts:
                kept.append(part)
                if writer is not None:
                    writer.write(part)
        return Selection.concat(kept) if is_main_process() else None


def _info(store: BagStore, config: SelectConfig, outcome: _Outcome) -> dict[str, Any]:
    """What the label file says of itself."""
    info: dict[str, Any] = {"method": config.method, "seed": config.seed, "bags": store.fingerprint}
    depth = store.manifest.identity.depth
    if depth.is_decided:
        info["depth"] = str(depth)
    if outcome.learned is not None and config.frozen.enabled:  # screening is not the method in full
        info["frozen"] = True
    if outcome.fallback is None:
        return info
    return info | {"fallback": outcome.source, "fallback_reason": outcome.fallback}


def _compared(
    store: BagStore, table: BagTable, selection: Selection, overlaps: BagOverlaps
) -> dict[str, ObjectOverlaps]:
    """How well the selection, and what it is compared with, cover the objects, by name."""
    oracle = oracle_choice(table, overlaps.iou.astype(np.float32))
    choices = all_baselines(table) | {"chosen": selection.bag_index, "oracle": oracle}
    if selection.psm_index is not None:
        choices["psm"] = selection.psm_index
    return compare_choices(store, choices, overlaps.match)


def _training(learned: Learned, config: SelectConfig) -> dict[str, Any]:
    return {
        **learned.result.to_dict(),
        "bag_accuracy": learned.bag_accuracy,
        "object_accuracy": learned.object_accuracy,
        "verdict": learned.verdict,
        "chance": learned.chance,
        "at_chance": learned.at_chance,
        "restarts": learned.restarts,
        "learning_rate": lr_line(config.train),
        "backbone": learned.backbone.model_dump(mode="json"),
    }


def _log_selection(out: Path, outcome: _Outcome, selection: Selection, quality: Mapping[str, Any] | None) -> None:
    """The last record of metrics.jsonl: what the selection is worth."""
    learned = outcome.learned
    iteration = learned.result.iterations if learned else 0
    record: dict[str, float | int | str] = {"event": "selection", "iteration": iteration}
    record |= {"source": outcome.source, "mean_score": float(selection.score.mean())}
    if learned is not None:
        record |= {"bag_accuracy": learned.bag_accuracy, "chance": learned.chance, "at_chance": int(learned.at_chance)}
    for name, figures in (quality or {}).items():
        record[f"miou_{name}"] = figures["miou"]
    kept = metrics_size(out) if learned is not None else 0
    with MetricLog(out, kept, iteration) as log:
        log.write(record, iteration)
