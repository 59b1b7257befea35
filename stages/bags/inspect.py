"""What is in a bag store: sizes, scores, areas, and how good its masks are where the truth is known."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from sapnet_pipe.data.bag_store.filesystem import Location
from sapnet_pipe.data.bag_store.masks import TOKENS
from sapnet_pipe.data.bag_store.store import BagStore
from sapnet_pipe.data.bag_store.table import BASELINES, BagTable, baseline_choice, best_in_bag
from sapnet_pipe.data.coco.instances import InstanceDataset, counts_of
from sapnet_pipe.data.coco.masks import rle_iou
from sapnet_pipe.data.errors import UserError

QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
_PROMPTS = ("point", "box_1", "box_2", "box_3")
_SMALL, _MEDIUM = 32**2, 96**2  # COCO's bounds on a mask's area in square pixels


@dataclass(frozen=True)
class ChoiceQuality:
    """Over the points that have a truth: mean IoU and the share of masks of IoU >= 0.5 and >= 0.75."""

    miou: float
    share_50: float
    share_75: float


@dataclass(frozen=True)
class BagsReport:
    """A store in figures.

    Attributes:
        shards, shards_total: That are there, and of the whole store; more in a part of one.
        failed_images: Without bags because they could not be read.
        features: Whether the masks have SAM's image features.
        bag_sizes: Number of bags by number of masks.
        prompts: Number of masks by prompt: the point alone, or point and box of SAM's mask 1, 2 or 3.
        score, stability, area: Quantiles (`QUANTILES`) over all masks.
        area_share: Share of masks that COCO calls small, medium and large.
        categories: Number of points by category name.
        quality: By baseline, and for the best mask of each bag (``oracle``); None without truth.
        points_with_truth: Points whose id is that of a true object (no crowds).
    """

    store: Location
    fingerprint: str
    sam_model: str
    recipe: str
    precision: str
    features: bool
    shards: int
    shards_total: int
    images: int
    failed_images: int
    points: int
    masks: int
    bytes: int
    bytes_per_mask: float
    dropped: Mapping[str, int]
    bag_sizes: Mapping[int, int]
    prompts: Mapping[str, int]
    score: Mapping[str, float]
    stability: Mapping[str, float]
    area: Mapping[str, float]
    area_share: Mapping[str, float]
    categories: Mapping[str, int]
    quality: Mapping[str, ChoiceQuality] | None
    points_with_truth: int

    def to_dict(self) -> dict[str, Any]:
        """The same as plain values for JSON."""
        plain = asdict(self) | {"store": str(self.store)}
        plain["bag_sizes"] = {str(size): count for size, count in self.bag_sizes.items()}
        return plain


def inspect(path: Location, truth: InstanceDataset | None = None, *, quiet: bool = False) -> BagsReport:
    """Describe a store; with truth, read every mask once, image by image.

    Args:
        truth: Instance masks whose annotation ids are the point ids.
    Raises: UserError if the store cannot be read, or no point id is that of an object in `truth`.
    """
    store = BagStore.open(path, allow_part=True)
    table = store.read_table()
    masks = table.masks
    iou = None if truth is None else mask_ious(store, table, truth, quiet=quiet)
    names = {category.category_id: category.name for category in store.categories}
    sizes, size = np.bincount(table.bag_sizes), sum(entry.bytes for entry in store.manifest.shards)
    prompt = masks.source // TOKENS
    matched = 0 if iou is None else int((~np.isnan(iou[table.offsets[:-1]])).sum())
    return BagsReport(
        store=path,
        fingerprint=store.fingerprint,
        sam_model=store.manifest.identity.sam_model,
        recipe=store.manifest.identity.recipe,
        precision=store.manifest.identity.precision,
        features=store.has_features,
        shards=len(store.manifest.shards),
        shards_total=store.manifest.shards_total,
        images=store.manifest.images,
        failed_images=len(store.manifest.failed),
        points=len(table),
        masks=len(masks),
        bytes=size,
        bytes_per_mask=size / len(masks),
        dropped=dict(store.manifest.dropped),
        bag_sizes={size: int(count) for size, count in enumerate(sizes) if count},
        prompts={name: int((prompt == place).sum()) for place, name in enumerate(_PROMPTS)},
        score=_quantiles(masks.score),
        stability=_quantiles(masks.stability),
        area=_quantiles(masks.area),
        area_share=_area_share(masks.area),
        categories={names[int(key)]: int((table.category_id == key).sum()) for key in np.unique(table.category_id)},
        quality=None if iou is None else choice_quality(table, iou),
        points_with_truth=matched,
    )


def mask_ious(store: BagStore, table: BagTable, truth: InstanceDataset, *, quiet: bool = False) -> NDArray[np.float64]:
    """(T,) IoU of every mask with the true object of its point's id; NaN where there is none.

    Raises: UserError if no point has a truth, or its image is of another size.
    """
    objects = {annotation.annotation_id: annotation for annotation in truth.annotations if not annotation.iscrowd}
    iou = np.full(len(table.masks), np.nan)
    row = 0
    for image_id, masks in tqdm(store.iter_masks(), total=store.manifest.images, desc="comparing", disable=quiet):
        height, width = int(table.height[row]), int(table.width[row])
        image = truth.images.get(image_id)
        if image is not None and (image.height, image.width) != (height, width):
            problem = f"but image {image_id} of the store is {width} wide and {height} high"
            value = f"{image.width} x {image.height}"
            raise UserError(truth.source, f"images[id={image_id}]", value, problem, "Give the truth of these images")
        for point_id, rles in masks.items():
            annotation = objects.get(point_id)
            if image is not None and annotation is not None and annotation.image_id == image_id:
                true_rle = counts_of(annotation, image, file=truth.source)
                store.check_masks(point_id, rles, height, width)
                iou[table.bag(row)] = rle_iou(rles, [true_rle], height, width)[:, 0]
            row += 1
    if np.isnan(iou).all():
        hint = "Give the file that the points were made from"
        raise UserError(truth.source, "annotations", len(objects), "none of which has the id of a point", hint)
    return iou


def choice_quality(table: BagTable, iou: NDArray[np.float64]) -> dict[str, ChoiceQuality]:
    """Quality of every baseline and of the oracle, over the bags whose IoUs are known.

    Args:
        iou: (T,) as `mask_ious` returns it.
    """
    known = ~np.isnan(iou[table.offsets[:-1]])
    choices = {name: baseline_choice(table, name) for name in BASELINES}
    choices["oracle"] = best_in_bag(np.nan_to_num(iou, nan=-1.0), table.offsets)
    return {name: _quality(iou[table.offsets[:-1] + choice][known]) for name, choice in choices.items()}


def _quality(iou: NDArray[np.float64]) -> ChoiceQuality:
    return ChoiceQuality(float(iou.mean()), float((iou >= 0.5).mean()), float((iou >= 0.75).mean()))


def _quantiles(values: NDArray) -> dict[str, float]:
    return {f"{level:g}": float(value) for level, value in zip(QUANTILES, np.quantile(values, QUANTILES), strict=True)}


def _area_share(area: NDArray[np.int32]) -> dict[str, float]:
    small, large = area < _SMALL, area >= _MEDIUM
    shares = {"small": small, "medium": ~small & ~large, "large": large}
    return {name: float(members.mean()) for name, members in shares.items()}
