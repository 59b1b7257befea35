"""Stage one: points and images in, a bag store out."""

import sys
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from data.bag_filesystem import Location, store_folder
from data.bag_manifest import MANIFEST, BagIdentity, BagManifest
from data.bag_writer import BagWriter, open_writer
from data.files import sha256_file
from data.point_set import PointSet
from stages.bags.background import InBackground
from stages.bags.checkpoints import checkpoint_sha256
from stages.bags.config import BagsConfig
from stages.bags.parts import wanted_shards
from stages.bags.preflight import find_images
from stages.bags.progress import Estimate, Rates, rates
from stages.bags.recipes import RECIPES
from stages.bags.speed import precision_name
from stages.bags.worker import BagJob, BagWorker
from stages.devices import limit_threads


@dataclass(frozen=True)
class BagsSummary:
    """What a run did.

    Attributes:
        out, manifest: The store's folder and its manifest.
        images, points, masks: In the whole store.
        dropped: What did not become a mask, by reason.
        shards, shards_made: In the store, and of these made by this run; the others were there already.
        shards_total: Of the whole store; more than `shards` if this is a part of it.
        bytes: Size of all shards.
        seconds: Time that this run took.
        images_per_second, encoder_share, decoder_share, host_share: How it was spent; see `progress.Rates`.
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
    bytes: int
    seconds: float
    images_per_second: float | None = None
    encoder_share: float | None = None
    decoder_share: float | None = None
    host_share: float | None = None

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
    files = find_images(points, images_dir, quiet=quiet)
    image_ids = sorted(files)
    shards = [image_ids[start : start + config.shard_images] for start in range(0, len(image_ids), config.shard_images)]
    wanted = wanted_shards(config.part, len(shards))
    with open_writer(out, _identity(points, config), points.categories, len(shards), wanted) as writer:
        missing, spent = writer.missing, Rates()
        if missing:
            if not quiet:
                tqdm.write(_estimate(points, [shards[index] for index in missing], config).line(out), file=sys.stderr)
            spent = _make(BagWorker(BagJob(points, files, config), quiet=quiet), writer, shards, quiet)
        manifest = writer.manifest or writer.finish(points.dropped)
    return _summary(out, manifest, len(missing), time.monotonic() - started, spent)


def _make(worker: BagWorker, writer: BagWriter, shards: Sequence[Sequence[int]], quiet: bool) -> Rates:
    """Make the missing shards; each is written while the next one is made."""
    started, missing = time.monotonic(), writer.missing
    parts: dict[str, float] = defaultdict(float)
    images = sum(len(shards[index]) for index in missing)
    with tqdm(total=images, desc="bags", unit="img", disable=quiet) as bar, InBackground(1) as background:

        def on_image() -> None:
            bar.update()
            background.check()

        for index in missing:
            made = worker.make_shard(shards[index], on_image=on_image)
            for name, seconds in made.seconds.items():
                parts[name] += seconds
            background.put(writer.write_shard, index, made.bags, made.dropped)
    return rates(images, time.monotonic() - started, parts)


def _estimate(points: PointSet, shards: Sequence[Sequence[int]], config: BagsConfig) -> Estimate:
    image_ids = [image_id for shard in shards for image_id in shard]
    count = int(np.isin(points.image_id, image_ids).sum())
    return Estimate(len(image_ids), count, len(shards), RECIPES[config.recipe].masks, config.features)


def _identity(points: PointSet, config: BagsConfig) -> BagIdentity:
    return BagIdentity(
        sam_model=config.sam,
        checkpoint_sha256=checkpoint_sha256(config.sam, config.checkpoint),
        recipe=config.recipe,
        recipe_settings={**RECIPES[config.recipe].settings(), **({"features": True} if config.features else {})},
        precision=precision_name(config),
        points_sha256=sha256_file(points.source),
        shard_images=config.shard_images,
    )


def _summary(out: Location, manifest: BagManifest, shards_made: int, seconds: float, spent: Rates) -> BagsSummary:
    return BagsSummary(
        out=out,
        manifest=store_folder(out).at(MANIFEST),
        images=manifest.images,
        points=manifest.points,
        masks=manifest.masks,
        dropped=manifest.dropped,
        shards=len(manifest.shards),
        shards_made=shards_made,
        shards_total=manifest.shards_total,
        bytes=sum(shard.bytes for shard in manifest.shards),
        seconds=round(seconds, 3),
        **asdict(spent),
    )
