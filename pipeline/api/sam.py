"""SAM in a Python program: the bags of points on one image in memory."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sapnet_pipe.data.bag_store.schema import Bag
from sapnet_pipe.data.coco.instances import ImageRecord
from sapnet_pipe.pipeline.api.arrays import checked_image, checked_points
from sapnet_pipe.pipeline.settings import resolve_settings
from sapnet_pipe.stages.bags.config import BagsConfig
from sapnet_pipe.stages.bags.recipes import RECIPES, Point, make_bag, prompt
from sapnet_pipe.stages.bags.sam.adapter import SamPrompter
from sapnet_pipe.stages.bags.sam.adapter import load_sam as load_prompter
from sapnet_pipe.stages.bags.sam.checkpoints import checkpoint_path
from sapnet_pipe.stages.bags.sam.options import repeatable, sam_options
from sapnet_pipe.stages.training.devices import limit_threads, pick_device


class Sam:
    """A loaded SAM; `load_sam` makes one."""

    def __init__(self, prompter: SamPrompter, recipe: str) -> None:
        self._prompter, self._recipe = prompter, RECIPES[recipe]

    def make_bags(self, image: NDArray[np.uint8], points: ArrayLike) -> list[Bag]:
        """The bag of every point: the masks that SAM offers for it.

        A bag is the same, bit for bit, as `generate_bags` stores for that point on that machine.

        Args:
            image: (H, W, 3) uint8 RGB.
            points: One (x, y) or N of them, (N, 2), in pixels of the image; (0, 0) is the top left corner of its top
                left pixel.
        Returns: a bag per point, in their order; `point_id` is the place in `points`, `image_id` and `category_id` are
            0. ``decode_masks(bag.masks.rle, bag.height, bag.width)`` is (M, H, W) bool.
        Raises: UserError for another shape or type of array, and for a point outside the image.
        """
        pixels = checked_image(image)
        height, width = pixels.shape[:2]
        xy = checked_points(points, height, width)
        record = ImageRecord(image_id=0, file_name="", height=height, width=width)
        clicks = [Point(place, 0, (x, y)) for place, (x, y) in enumerate(xy.tolist())]
        with repeatable():
            (encoded,) = self._prompter.encode([self._prompter.prepare(pixels)])
            prompted = prompt(self._prompter, encoded, clicks, self._recipe)
        return [make_bag(record, answers, self._recipe)[0] for answers in prompted]


def load_sam(sam: str = "vit_h", *, checkpoint: str | Path | None = None, **settings: Any) -> Sam:
    """Load SAM for images in memory.

    Args:
        sam: ``vit_b``, ``vit_l`` or ``vit_h``, whose weights are downloaded once; ``tiny`` is for rendered scenes only.
        checkpoint: The weights file, where they are not to be downloaded.
        settings: Others of `generate-bags`, such as ``recipe="multimask"``, ``device="cuda"`` or ``fast=True``.
    Raises: UserError for a setting, file or device at fault.
    """
    given = {"sam": sam, "checkpoint": None if checkpoint is None else Path(checkpoint), **settings}
    config = resolve_settings(BagsConfig, values=given)
    limit_threads()
    device = pick_device(config.device)
    path = checkpoint_path(config.sam, config.checkpoint)
    return Sam(load_prompter(config.sam, path, device, sam_options(config, device)), config.recipe)
