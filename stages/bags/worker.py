"""Making the bags of one shard: the unit of work, in this process, in others and on other machines.

A `BagJob` says what is to be made and can be pickled. A `BagWorker` holds the loaded SAM and makes any shard of its
job; the same job and image ids give the same bags, whoever makes them and whatever was made before.
"""

import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np

from sapnet_pipe.data.bag_store.schema import Bag
from sapnet_pipe.data.errors import UserError
from sapnet_pipe.data.images import read_image
from sapnet_pipe.data.pixel_depth import Depth
from sapnet_pipe.data.points.point_set import PointSet
from sapnet_pipe.stages.bags.background import InBackground, fetched_ahead
from sapnet_pipe.stages.bags.config import BagsConfig
from sapnet_pipe.stages.bags.failures import image_field
from sapnet_pipe.stages.bags.recipes import RECIPES, Point, PromptedPoint, make_bag, prompt
from sapnet_pipe.stages.bags.sam.adapter import PreparedImage, load_sam
from sapnet_pipe.stages.bags.sam.checkpoints import checkpoint_path
from sapnet_pipe.stages.bags.sam.options import encode_batch, repeatable, sam_options
from sapnet_pipe.stages.training.devices import pick_device

_ImageBags = Future[list[tuple[Bag, Counter[str]]]]
_IMAGES_IN_HAND = 2  # whose masks wait for their RLEs: at 60 points some 300 MB each


@dataclass(frozen=True, slots=True)
class BagJob:
    """Everything that decides the bags of a run, as plain values that travel to other processes.

    Args:
        points: All points of the run.
        files: image_id -> file, as `failures.find_images` returns it.
        config: The settings; `device` is resolved where the worker runs.
    """

    points: PointSet
    files: Mapping[int, Path]
    config: BagsConfig


@dataclass(slots=True)
class ShardResult:
    """What came of one shard.

    Attributes:
        bags: By (image_id, point_id).
        dropped: What was left out of the bags, by reason.
        failures: image_id -> why it has no bags; empty unless failures are tolerated.
        finished: How many images, from the first on, are done with: a multiple of those that are encoded at once.
        seconds: How long the shard waited for the "encoder" and the "decoder".
    """

    bags: list[Bag] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)
    failures: dict[int, UserError] = field(default_factory=dict)
    finished: int = 0
    seconds: dict[str, float] = field(default_factory=lambda: {"encoder": 0.0, "decoder": 0.0})

    def take(self, pending: "deque[list[_ImageBags]]", size: int) -> None:
        """Take the bags of those first batches, of `size` images each, that are all made."""
        while pending and all(future.done() and future.exception() is None for future in pending[0]):
            for future in pending.popleft():
                for bag, left_out in future.result():
                    self.bags.append(bag)
                    self.dropped.update(left_out)
            self.finished += size

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Add the time of the block to `seconds`."""
        started = time.monotonic()
        yield
        self.seconds[name] += time.monotonic() - started


class BagWorker:
    """A loaded SAM, `sam`, on `device`, and the job it works for; `batch` images are encoded at once.

    While the device encodes and decodes, one thread reads and scales the images that come next, and another makes
    the RLEs and bags of the masks before.
    """

    def __init__(self, job: BagJob, *, quiet: bool = False) -> None:
        """Load the weights, downloading official ones if needed.

        Raises: UserError if they, or the device, cannot be had.
        """
        config = job.config
        path = checkpoint_path(config.sam, config.checkpoint, quiet=quiet)
        self.device = pick_device(config.device)
        self.batch = encode_batch(config, self.device)
        self.sam = load_sam(config.sam, path, self.device, sam_options(config, self.device))
        self._job, self._recipe = job, RECIPES[config.recipe]

    def for_job(self, job: BagJob) -> "BagWorker":
        """This worker, its SAM loaded, for other images or points; the settings are to be the same."""
        other = copy(self)
        other._job = job
        return other

    def make_shard(
        self,
        image_ids: Sequence[int],
        *,
        result: ShardResult | None = None,
        on_image: Callable[[], object] = lambda: None,
        tolerate: bool = False,
    ) -> ShardResult:
        """The bags of these images.

        Args:
            image_ids: Ascending; every one has points.
            result: Where they are put as they are finished, and stay if this is interrupted; an empty one.
            on_image: Called after each image; what it raises ends the shard.
            tolerate: Collect the images that cannot be read in `failures` instead of raising at the first.
        Raises: UserError naming the points file, for an image that cannot be read.
        """
        result = ShardResult() if result is None else result
        pending: deque[list[_ImageBags]] = deque()
        try:
            with (
                repeatable(),
                fetched_ahead(self._prepare, image_ids, self.batch + 1) as images,
                InBackground(_IMAGES_IN_HAND, finish=True) as background,
            ):
                while batch := list(islice(images, self.batch)):
                    ready = self._ready(batch, result, tolerate)
                    with result.timed("encoder"):
                        encoded = self.sam.encode(list(ready.values()))
                    making: list[_ImageBags] = []
                    for image_id, one in zip(ready, encoded, strict=True):
                        with result.timed("decoder"):
                            prompted = prompt(self.sam, one, list(points_of(self._job.points, image_id)), self._recipe)
                        making.append(background.put(self._bags, image_id, prompted))
                    pending.append(making)
                    result.take(pending, self.batch)
                    for _ in batch:
                        on_image()
        finally:
            result.take(pending, self.batch)
        result.finished = len(image_ids)
        return result

    def _prepare(self, image_id: int) -> PreparedImage:
        points = self._job.points
        image = points.images[image_id]
        path, field = self._job.files[image_id], image_field(image)
        depth = Depth.parse(self._job.config.depth)
        pixels = read_image(path, image.height, image.width, depth=depth, file=points.source, field=field)
        return self.sam.prepare(pixels)

    def _ready(
        self, batch: Sequence[tuple[int, Future[PreparedImage]]], result: ShardResult, tolerate: bool
    ) -> dict[int, PreparedImage]:
        """The images of the batch that could be read."""
        ready = {}
        for image_id, image in batch:
            try:
                ready[image_id] = image.result()
            except UserError as error:
                if not tolerate:
                    raise
                result.failures[image_id] = error
        return ready

    def _bags(self, image_id: int, prompted: Sequence[PromptedPoint]) -> list[tuple[Bag, Counter[str]]]:
        return [make_bag(self._job.points.images[image_id], point, self._recipe) for point in prompted]


def points_of(points: PointSet, image_id: int) -> Iterator[Point]:
    """The points of one image by ascending id."""
    first, last = np.searchsorted(points.image_id, [image_id, image_id + 1])
    for row in range(first, last):
        x, y = points.xy[row].tolist()
        yield Point(int(points.point_id[row]), int(points.category_id[row]), (x, y))
