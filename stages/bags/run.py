"""Stage one: points and images in, a bag store out."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from data.bag_manifest import MANIFEST, BagIdentity, BagManifest
from data.bag_schema import Bag
from data.bag_writer import open_writer
from data.files import sha256_file
from data.images import read_image
from data.point_set import PointSet
from stages.bags.checkpoints import checkpoint_path, checkpoint_sha256
from stages.bags.config import BagsConfig
from stages.bags.preflight import find_images, image_field
from stages.bags.recipes import RECIPES, PromptedPoint, Recipe, make_bag
from stages.bags.sam import SamPrompter, load_sam
from stages.devices import limit_threads, pick_device

PRECISION = "float32"


@dataclass(frozen=True)
class BagsSummary:
    """What a run did.

    Attributes:
        out, manifest: The store's folder and its manifest.
        images, points, masks: In the whole store.
        dropped: What did not become a mask, by reason.
        shards, shards_made: In the whole store, and of these made by this run; the others were there already.
        bytes: Size of all shards.
        seconds: Time that this run took.
    """

    out: Path
    manifest: Path
    images: int
    points: int
    masks: int
    dropped: Mapping[str, int]
    shards: int
    shards_made: int
    bytes: int
    seconds: float

    @property
    def already_complete(self) -> bool:
        """The store was finished before, with the same fingerprint: nothing was done."""
        return self.shards_made == 0

    def to_dict(self) -> dict[str, Any]:
        """The same as plain values for JSON."""
        paths = {"out": str(self.out), "manifest": str(self.manifest), "dropped": dict(self.dropped)}
        return asdict(self) | paths | {"already_complete": self.already_complete}


def run(points: PointSet, images_dir: Path, out: Path, config: BagsConfig, *, quiet: bool = False) -> BagsSummary:
    """Make the bag of every point, or go on with an interrupted run of the same settings.

    Raises: UserError for images that cannot be read, weights that do not fit, a store of other settings in `out`, or a
        folder that cannot be written; what was finished before stays, and the same command goes on from there.
    """
    started = time.monotonic()
    limit_threads()
    files = find_images(points, images_dir, quiet=quiet)
    image_ids = sorted(files)
    shards = [image_ids[start : start + config.shard_images] for start in range(0, len(image_ids), config.shard_images)]
    with open_writer(out, _identity(points, config), points.categories, len(shards)) as writer:
        missing = writer.missing
        if missing:
            job = _Job(points, files, _load(config, quiet), RECIPES[config.recipe])
            with tqdm(
                total=sum(len(shards[index]) for index in missing), desc="bags", unit="img", disable=quiet
            ) as bar:
                for index in missing:
                    bags, dropped = _bags_of(job, shards[index], bar)
                    writer.write_shard(index, bags, dropped)
        manifest = writer.manifest or writer.finish(points.dropped)
    return _summary(out, manifest, len(missing), time.monotonic() - started)


@dataclass(frozen=True)
class _Job:
    """What every image of a run needs."""

    points: PointSet
    files: Mapping[int, Path]
    sam: SamPrompter
    recipe: Recipe


def _identity(points: PointSet, config: BagsConfig) -> BagIdentity:
    return BagIdentity(
        sam_model=config.sam,
        checkpoint_sha256=checkpoint_sha256(config.sam, config.checkpoint),
        recipe=config.recipe,
        recipe_settings=RECIPES[config.recipe].settings(),
        precision=PRECISION,
        points_sha256=sha256_file(points.source),
        shard_images=config.shard_images,
    )


@contextmanager
def _repeatable() -> Iterator[None]:
    """Let cuDNN take only algorithms that give the same bits every time, so that a restart fits what is there."""
    before = torch.backends.cudnn.deterministic
    torch.backends.cudnn.deterministic = True
    try:
        yield
    finally:
        torch.backends.cudnn.deterministic = before


def _load(config: BagsConfig, quiet: bool) -> SamPrompter:
    path = checkpoint_path(config.sam, config.checkpoint, quiet=quiet)
    return load_sam(config.sam, path, pick_device(config.device))


def _bags_of(job: _Job, image_ids: list[int], bar: tqdm) -> tuple[list[Bag], Counter[str]]:
    """The bags of one shard, by (image_id, point_id), and what was left out of them."""
    bags: list[Bag] = []
    dropped: Counter[str] = Counter()
    for image_id in image_ids:
        image = job.points.images[image_id]
        source, field = job.points.source, image_field(image)
        pixels = read_image(job.files[image_id], image.height, image.width, file=source, field=field)
        encoded = job.sam.encode_image(pixels)
        for point in _points_of(job.points, image_id):
            bag, left_out = make_bag(job.sam, encoded, image, point, job.recipe)
            bags.append(bag)
            dropped.update(left_out)
        bar.update()
    return bags, dropped


def _points_of(points: PointSet, image_id: int) -> Iterator[PromptedPoint]:
    first, last = np.searchsorted(points.image_id, [image_id, image_id + 1])
    for row in range(first, last):
        x, y = points.xy[row].tolist()
        yield PromptedPoint(int(points.point_id[row]), int(points.category_id[row]), (x, y))


def _summary(out: Path, manifest: BagManifest, shards_made: int, seconds: float) -> BagsSummary:
    return BagsSummary(
        out=out,
        manifest=out / MANIFEST,
        images=manifest.images,
        points=manifest.points,
        masks=manifest.masks,
        dropped=manifest.dropped,
        shards=len(manifest.shards),
        shards_made=shards_made,
        bytes=sum(shard.bytes for shard in manifest.shards),
        seconds=round(seconds, 3),
    )
