"""Making the bags of one shard: the unit of work, here and on other processes and machines.

A `BagJob` says what is to be made and can be pickled. A `BagWorker` holds the loaded SAM and makes any shard of its
job; the same job and image ids give the same bags, whoever makes them and whatever was made before.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from data.bag_schema import Bag
from data.coco import ImageRecord
from data.errors import UserError
from data.images import Pixels, read_image
from data.point_set import PointSet
from stages.bags.checkpoints import checkpoint_path
from stages.bags.config import BagsConfig
from stages.bags.preflight import image_field
from stages.bags.recipes import RECIPES, PromptedPoint, make_bag
from stages.bags.sam import load_sam
from stages.devices import pick_device


@dataclass(frozen=True, slots=True)
class BagJob:
    """Everything that decides the bags of a run, as plain values that travel to other processes.

    Args:
        points: All points of the run.
        files: image_id -> file, as `preflight.find_images` returns it.
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
    """

    bags: list[Bag] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)
    failures: dict[int, UserError] = field(default_factory=dict)


class BagWorker:
    """A loaded SAM and the job it works for."""

    def __init__(self, job: BagJob, *, quiet: bool = False) -> None:
        """Load the weights, downloading official ones if need be.

        Raises: UserError if they, or the device, cannot be had.
        """
        config = job.config
        path = checkpoint_path(config.sam, config.checkpoint, quiet=quiet)
        self._job, self._recipe = job, RECIPES[config.recipe]
        self._sam = load_sam(config.sam, path, pick_device(config.device))

    def make_shard(
        self, image_ids: Sequence[int], *, on_image: Callable[[], object] = lambda: None, tolerate: bool = False
    ) -> ShardResult:
        """The bags of these images.

        Args:
            image_ids: Ascending; every one has points.
            on_image: Called after each image; what it raises ends the shard.
            tolerate: Collect the images that cannot be read in `failures` instead of raising at the first.
        Raises: UserError naming the points file, for an image that cannot be read.
        """
        result = ShardResult()
        for image_id in image_ids:
            try:
                pixels = self._read(image_id)
            except UserError as error:
                if not tolerate:
                    raise
                result.failures[image_id] = error
            else:
                self._add_bags(self._job.points.images[image_id], pixels, result)
            on_image()
        return result

    def _read(self, image_id: int) -> Pixels:
        points = self._job.points
        image = points.images[image_id]
        path, field = self._job.files[image_id], image_field(image)
        return read_image(path, image.height, image.width, file=points.source, field=field)

    def _add_bags(self, image: ImageRecord, pixels: Pixels, result: ShardResult) -> None:
        encoded = self._sam.encode_image(pixels)
        for point in points_of(self._job.points, image.image_id):
            bag, left_out = make_bag(self._sam, encoded, image, point, self._recipe)
            result.bags.append(bag)
            result.dropped.update(left_out)


def points_of(points: PointSet, image_id: int) -> Iterator[PromptedPoint]:
    """The points of one image by ascending id."""
    first, last = np.searchsorted(points.image_id, [image_id, image_id + 1])
    for row in range(first, last):
        x, y = points.xy[row].tolist()
        yield PromptedPoint(int(points.point_id[row]), int(points.category_id[row]), (x, y))
