"""The recipes by which SAM's masks for one point become its bag.

``multimask``: SAM's three masks for the point. ``refined``: after them up to three more, one for the point together
with the box of each of the three; a refined mask that nearly repeats a mask before it is left out. ``centred``: as
``refined``, but each box comes with the innermost point of its mask in place of the click, for the same time. The
three masks of the point alone always stay, alike or not: the baselines (top-1, always token k) choose among them.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sapnet_pipe.data.bag_store.choice import TOKENS
from sapnet_pipe.data.bag_store.schema import Bag
from sapnet_pipe.data.coco.instances import ImageRecord
from sapnet_pipe.data.coco.masks import encode_mask, rle_iou
from sapnet_pipe.stages.bags.sam.adapter import EncodedImage, SamPrompter
from sapnet_pipe.stages.bags.sam.decoded_masks import DecodedMasks
from sapnet_pipe.stages.bags.sam.mask_enlarging import STABILITY_OFFSET

EMPTY, DUPLICATE, PIXEL = "empty_masks", "near_duplicate_masks", "points_kept_as_one_pixel"


@dataclass(frozen=True, slots=True)
class Recipe:
    """A named way to make bags; every constant here decides the masks and is part of the fingerprint."""

    name: str
    refine: bool
    second_point: Literal["click", "innermost"] = "click"
    duplicate_iou: float = 0.95
    stability_offset: float = STABILITY_OFFSET
    box_token: str = "best of 0-3"

    @property
    def masks(self) -> int:
        """Masks of a bag, at most."""
        return 6 if self.refine else 3

    def settings(self) -> Mapping[str, Any]:
        """The constants, without the name, as JSON values."""
        constants = asdict(self)
        del constants["name"]
        return constants


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe("multimask", refine=False),
        Recipe("refined", refine=True),
        Recipe("centred", refine=True, second_point="innermost"),
    )
}


@dataclass(frozen=True, slots=True)
class Point:
    """One row of a point set; `xy` in original-image pixels."""

    point_id: int
    category_id: int
    xy: tuple[float, float]


@dataclass(frozen=True, slots=True)
class PromptedPoint:
    """A point and all that SAM answered to it.

    Args:
        alone: The masks of the point alone, tokens 1..3.
        refined: For each mask of `alone` that is not empty, the mask of the point together with that mask's box.
    """

    point: Point
    alone: DecodedMasks
    refined: Sequence[DecodedMasks] = ()


def prompt(sam: SamPrompter, encoded: EncodedImage, points: Sequence[Point], recipe: Recipe) -> list[PromptedPoint]:
    """Ask SAM all that the recipe asks for the points of one image, each round of prompts together."""
    xy = np.array([point.xy for point in points]).reshape(-1, 2)
    alone = sam.point_masks(encoded, xy)
    if not recipe.refine:
        return [PromptedPoint(point, masks) for point, masks in zip(points, alone, strict=True)]
    boxes = [masks.box_xyxy[masks.area > 0] for masks in alone]
    sizes = [len(part) for part in boxes]
    again = np.repeat(xy, sizes, axis=0)
    if recipe.second_point == "innermost":
        again = _innermost(alone, again)
    refined = iter(sam.box_masks(encoded, again, np.concatenate([np.zeros((0, 4)), *boxes])))
    return [
        PromptedPoint(point, masks, [next(refined) for _ in range(size)])
        for point, masks, size in zip(points, alone, sizes, strict=True)
    ]


def _innermost(alone: Sequence[DecodedMasks], click_xy: NDArray[np.float64]) -> NDArray[np.float64]:
    """(P, 2) innermost points of the masks that are not empty; the click where a mask is too small to have one."""
    points = [masks.innermost_xy[masks.area > 0] for masks in alone if masks.innermost_xy is not None]
    innermost = np.concatenate([np.zeros((0, 2)), *points])
    return np.where(np.isnan(innermost), click_xy, innermost)


def make_bag(image: ImageRecord, prompted: PromptedPoint, recipe: Recipe) -> tuple[Bag, Counter[str]]:
    """The bag of one point, and what was left out of it by reason; run-length codes are made here, on the CPU.

    A point for which all three masks of SAM are empty keeps the pixel under it, so that no bag is empty.
    """
    candidates = _Candidates(image.height, image.width)
    candidates.add(prompted.alone, 0, None)
    if not candidates.counts:
        candidates.add_pixel(prompted.point.xy, prompted.alone)
    tokens = list(candidates.source)  # of prompt 0, so these are the tokens 1..3
    for token, refined in zip(tokens, prompted.refined, strict=False):
        candidates.add(refined, token, recipe.duplicate_iou)
    return candidates.bag(image, prompted.point), candidates.dropped


@dataclass(slots=True)
class _Candidates:
    """The masks of a bag as they gather, and a count of those left out."""

    height: int
    width: int
    counts: list[bytes] = field(default_factory=list)
    box: list[NDArray[np.float32]] = field(default_factory=list)
    area: list[int] = field(default_factory=list)
    score: list[float] = field(default_factory=list)
    stability: list[float] = field(default_factory=list)
    source: list[int] = field(default_factory=list)
    feature: list[NDArray[np.float16]] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)

    def add(self, decoded: DecodedMasks, prompt_number: int, duplicate_iou: float | None) -> None:
        """Take the masks that are not empty and, if an IoU is given, not nearly equal to one already there."""
        for place, code in enumerate(decoded.codes):
            if not decoded.area[place]:
                self.dropped[EMPTY] += 1
                continue
            counts = code()
            if duplicate_iou is not None and self._greatest_iou(counts) > duplicate_iou:
                self.dropped[DUPLICATE] += 1
                continue
            self.counts.append(counts)
            self.box.append(decoded.box_xyxy[place])
            self.area.append(int(decoded.area[place]))
            self.stability.append(decoded.stability[place])
            self._append(decoded, place, prompt_number)

    def add_pixel(self, point_xy: tuple[float, float], decoded: DecodedMasks) -> None:
        """Take the pixel under the point, in the name of SAM's best token: no bag is ever empty."""
        column, row = int(point_xy[0]), int(point_xy[1])
        mask = np.zeros((self.height, self.width), bool)
        mask[row, column] = True
        self.counts.append(encode_mask(mask))
        self.box.append(np.array([column, row, column + 1, row + 1], np.float32))
        self.area.append(1)
        self.stability.append(0.0)
        self._append(decoded, int(decoded.score.argmax()), 0)
        self.dropped[PIXEL] += 1

    def bag(self, image: ImageRecord, point: Point) -> Bag:
        """All of them as the bag of `point`."""
        return Bag(
            image_id=image.image_id,
            file_name=image.file_name,
            height=image.height,
            width=image.width,
            point_id=point.point_id,
            category_id=point.category_id,
            point_xy=point.xy,
            counts=self.counts,
            box_xyxy=np.stack(self.box),
            area=np.array(self.area, np.int32),
            score=np.array(self.score, np.float32),
            stability=np.array(self.stability, np.float32),
            source=np.array(self.source, np.int8),
            feature=np.stack(self.feature) if self.feature else None,
        )

    def _append(self, decoded: DecodedMasks, place: int, prompt_number: int) -> None:
        self.score.append(decoded.score[place])
        self.source.append(prompt_number * TOKENS + int(decoded.token[place]))
        if decoded.feature is not None:
            self.feature.append(decoded.feature[place])

    def _greatest_iou(self, counts: bytes) -> float:
        return float(rle_iou([counts], self.counts, self.height, self.width).max(initial=0.0))
