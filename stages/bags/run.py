"""Stage one: points and images in, a bag store out."""

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from sapnet_pipe.data.bag_store.filesystem import Location, store_folder
from sapnet_pipe.data.bag_store.manifest import MANIFEST, BagIdentity, BagManifest, read_identity
from sapnet_pipe.data.bag_store.writer import BagWriter, open_writer
from sapnet_pipe.data.depth_of_set import depth_of_set
from sapnet_pipe.data.errors import FaultReport, UserError
from sapnet_pipe.data.files import sha256_file
from sapnet_pipe.data.pixel_depth import Depth
from sapnet_pipe.data.points.point_set import PointSet
from sapnet_pipe.stages.bags.config import BagsConfig
from sapnet_pipe.stages.bags.executors import make_locally, make_on_ray
from sapnet_pipe.stages.bags.failures import find_images
from sapnet_pipe.stages.bags.progress import Estimate, Rates
from sapnet_pipe.stages.bags.recipes import RECIPES
from sapnet_pipe.stages.bags.sam.checkpoints import checkpoint_sha256
from sapnet_pipe.stages.bags.sam.options import encodes_together, precision_name
from sapnet_pipe.stages.bags.tasks import ShardTask, plan_tasks, wanted_shards
from sapnet_pipe.stages.bags.worker import BagJob
from sapnet_pipe.stages.training.devices import limit_threads
from sapnet_pipe.stages.training.failures import FailureBudget


@dataclass(frozen=True)
class BagsSummary:
    """What a run did.

    Attributes:
        out, manifest: The store's folder and its manifest.
        images, points, masks: In the whole store.
        dropped: What did not become a mask, by reason.
        shards, shards_made: In the store, and of these made by this run; the others were there already.
        shards_total: Of the whole store; more than `shards` if this is a part of it.
        failed_images: Without bags because they could not be read; the manifest lists them with the reason.
        bytes: Size of all shards.
        seconds: Time that this run took.
        set_aside: Damaged shards of an interrupted run, which were made again, under the names that they have now.
        notes: What was mended in the points file or is read in part, a line a kind.
        images_per_second, encoder_share, decoder_share, host_share: How that time was spent; see `progress.Rates`.
    """

    out: Location
    manifest: str
    images: int
    points: int
    masks: int
    dropped: Mapping[str, int]
    shards: int
    shards_made: int
    shards_total: int
    failed_images: int
    bytes: int
    seconds: float
    notes: tuple[str, ...] = ()
    images_per_second: float | None = None
    encoder_share: float | None = None
    decoder_share: float | None = None
    host_share: float | None = None
    set_aside: tuple[str, ...] = ()

    @property
    def already_complete(self) -> bool:
        """The store was finished before, with the same fingerprint: nothing was done."""
        return self.shards_made == 0

    def to_dict(self) -> dict[str, Any]:
        """The same as plain values for JSON."""
        paths = {"out": str(self.out), "dropped": dict(self.dropped)}
        return asdict(self) | paths | {"already_complete": self.already_complete}


def run(points: PointSet, images_dir: Path, out: Location, config: BagsConfig, *, quiet: bool = False) -> BagsSummary:
    """Make the bag of every point, or go on with an interrupted run of the same settings.

    Raises: UserError for images that cannot be read, weights that do not fit, a store of other settings in `out`, or a
        folder that cannot be written; what was finished before stays, and the same command goes on from there.
    """
    started = time.monotonic()
    limit_threads()
    lost: dict[int, UserError] = {}
    tolerant = config.max_failure_rate > 0 or config.retry_failed
    report = FaultReport(points.source)
    files = find_images(points, images_dir, report=report, lost=lost if tolerant else None, quiet=quiet)
    config = _with_depth(config, files, out, report, quiet)
    notes = (*points.notes, *report.notes())
    shards = _shards(sorted({*files, *lost}), config.shard_images)
    wanted = wanted_shards(config.part, len(shards))
    identity = _identity(points, config)
    with open_writer(out, identity, points.categories, len(shards), wanted, reopen=config.retry_failed) as writer:
        tasks, spent = [], Rates()
        if writer.manifest is None:
            budget = _budget(writer, sum(len(shards[index]) for index in wanted), config)
            whole = config.fast if config.ray else encodes_together(config)  # the device of a worker is not known here
            tasks = plan_tasks(writer, shards, lost, retry=config.retry_failed, whole=whole)
            budget.add({image_id: error for task in tasks for image_id, error in task.lost.items()})
        if tasks:
            if not quiet:
                tqdm.write(_estimate(points, tasks, config).line(out), file=sys.stderr)
            make = make_on_ray if config.ray else make_locally
            spent = make(BagJob(points, files, config), tasks, writer, budget, quiet=quiet)
        manifest = writer.manifest or writer.finish(points.dropped)
    return _summary(out, manifest, tasks, time.monotonic() - started, spent, writer.set_aside, notes)


def _with_depth(
    config: BagsConfig, files: Mapping[int, Path], out: Location, report: FaultReport, quiet: bool
) -> BagsConfig:
    """The settings with the depth that the photographs are scaled by.

    ``auto`` is decided for all of them, but a store in `out` goes on by what was decided for it.
    """
    depth, begun = Depth.parse(config.depth), read_identity(store_folder(out))
    goes_on = begun is not None and not depth.is_decided and begun.depth.rule == "auto"
    if begun is not None and goes_on:
        depth = begun.depth
    taken = depth_of_set(files.values(), depth, report, decide_auto=not goes_on, quiet=quiet)
    return config.model_copy(update={"depth": str(taken)})


def _shards(image_ids: list[int], size: int) -> list[list[int]]:
    return [image_ids[start : start + size] for start in range(0, len(image_ids), size)]


def _budget(writer: BagWriter, images: int, config: BagsConfig) -> FailureBudget:
    recorded = [image for shard in writer.failed.values() for image in shard]
    return FailureBudget(config.max_failure_rate, images, recorded, retried=config.retry_failed)


def _estimate(points: PointSet, tasks: Sequence[ShardTask], config: BagsConfig) -> Estimate:
    image_ids = [image_id for task in tasks for image_id in task.image_ids]
    count = int(np.isin(points.image_id, image_ids).sum())
    return Estimate(len(image_ids), count, len(tasks), RECIPES[config.recipe].masks, config.features)


def _identity(points: PointSet, config: BagsConfig) -> BagIdentity:
    return BagIdentity(
        sam_model=config.sam,
        checkpoint_sha256=checkpoint_sha256(config.sam, config.checkpoint),
        recipe=config.recipe,
        recipe_settings={
            **RECIPES[config.recipe].settings(),
            **({"features": True} if config.features else {}),
            **({} if config.depth == "auto" else {"depth": config.depth}),  # which older stores do not have
        },
        precision=precision_name(config),
        points_sha256=points.sha256 or sha256_file(points.source),
        shard_images=config.shard_images,
    )


def _summary(
    out: Location,
    manifest: BagManifest,
    tasks: Sequence[ShardTask],
    seconds: float,
    spent: Rates,
    set_aside: Sequence[str],
    notes: tuple[str, ...],
) -> BagsSummary:
    return BagsSummary(
        out=out,
        manifest=store_folder(out).at(MANIFEST),
        images=manifest.images,
        points=manifest.points,
        masks=manifest.masks,
        dropped=manifest.dropped,
        shards=len(manifest.shards),
        shards_made=len(tasks),
        shards_total=manifest.shards_total,
        failed_images=len(manifest.failed),
        bytes=sum(shard.bytes for shard in manifest.shards),
        seconds=round(seconds, 3),
        set_aside=tuple(set_aside),
        notes=notes,
        **asdict(spent),
    )
