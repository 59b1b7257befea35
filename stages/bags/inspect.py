"""What is in a bag store: sizes, scores, areas, and how good its masks are where the truth is known."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sapnet_pipe.data.bag_store.filesystem import Location
from sapnet_pipe.data.bag_store.masks import TOKENS
from sapnet_pipe.data.bag_store.store import BagStore
from sapnet_pipe.data.bag_store.table import BASELINES, BagTable, baseline_choice, best_in_bag
from sapnet_pipe.data.coco.instances import InstanceDataset
from sapnet_pipe.data.evaluation.bag_overlaps import bag_overlaps

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
        prompts: Number of masks by prompt: the point alone, or point and box of SAM's mask 1, 2 or 3; in an imported
            store perhaps ``others``.
        score, stability, area: Quantiles (`QUANTILES`) over all masks.
        area_share: Share of masks that COCO calls small, medium and large.
        categories: Number of points by category name.
        quality: By baseline, and for the best mask of each bag (``oracle``); None without truth.
        points_with_truth: Points whose true object is known (`data.evaluation.objects`).
        matched: How many were found ``by_id`` and ``by_click``, true objects ``missing`` in the store, and points that
            are ``extra``; None without truth.
        notes: What the user should know of that, one line each.
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
    matched: Mapping[str, int] | None
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """The same as plain values for JSON."""
        plain = asdict(self) | {"store": str(self.store)}
        plain["bag_sizes"] = {str(size): count for size, count in self.bag_sizes.items()}
        return plain


def inspect(path: Location, truth: InstanceDataset | None = None, *, quiet: bool = False) -> BagsReport:
    """Describe a store; with truth, read every mask once, image by image.

    Args:
        truth: Instance masks of some of the objects.
    Raises: UserError if the store cannot be read, or `truth` has none of the objects.
    """
    store = BagStore.open(path, allow_part=True)
    table = store.read_table()
    masks = table.masks
    overlaps = None if truth is None else bag_overlaps(store, table, truth, quiet=quiet)
    names = {category.category_id: category.name for category in store.categories}
    sizes, size = np.bincount(table.bag_sizes), sum(entry.bytes for entry in store.manifest.shards)
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
        prompts=_by_prompt(masks.source // TOKENS),
        score=_quantiles(masks.score),
        stability=_quantiles(masks.stability),
        area=_quantiles(masks.area),
        area_share=_area_share(masks.area),
        categories={names[int(key)]: int((table.category_id == key).sum()) for key in np.unique(table.category_id)},
        quality=None if overlaps is None else choice_quality(table, overlaps.iou),
        points_with_truth=0 if overlaps is None else len(overlaps.match.found),
        matched=None if overlaps is None else overlaps.match.counts(),
        notes=() if overlaps is None else overlaps.match.notes,
    )


def choice_quality(table: BagTable, iou: NDArray[np.float64]) -> dict[str, ChoiceQuality]:
    """Quality of every baseline and of the oracle, over the bags whose IoUs are known.

    Args:
        iou: (T,) of every mask with its true object, NaN where there is none.
    """
    known = ~np.isnan(iou[table.offsets[:-1]])
    choices = {name: baseline_choice(table, name) for name in BASELINES}
    choices["oracle"] = best_in_bag(np.nan_to_num(iou, nan=-1.0), table.offsets)
    return {name: _quality(iou[table.offsets[:-1] + choice][known]) for name, choice in choices.items()}


def _quality(iou: NDArray[np.float64]) -> ChoiceQuality:
    return ChoiceQuality(float(iou.mean()), float((iou >= 0.5).mean()), float((iou >= 0.75).mean()))


def _quantiles(values: NDArray) -> dict[str, float]:
    return {f"{level:g}": float(value) for level, value in zip(QUANTILES, np.quantile(values, QUANTILES), strict=True)}


def _by_prompt(prompt: NDArray[np.int8]) -> dict[str, int]:
    counts = {name: int((prompt == place).sum()) for place, name in enumerate(_PROMPTS)}
    others = int((prompt >= len(_PROMPTS)).sum())
    return counts | ({"others": others} if others else {})


def _area_share(area: NDArray[np.int32]) -> dict[str, float]:
    small, large = area < _SMALL, area >= _MEDIUM
    shares = {"small": small, "medium": ~small & ~large, "large": large}
    return {name: float(members.mean()) for name, members in shares.items()}
