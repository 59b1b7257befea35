"""The recipes by which SAM's masks for one point become its bag.

``multimask``: SAM's three masks for the point. ``refined``: after them up to three more, one for the point together
with the box of each of the three; a refined mask that nearly repeats a mask before it is left out. ``centred``: as
``refined``, but each box comes with the innermost point of its mask in place of the click, for the same time. The
three masks of the point alone always stay, alike or not: the baselines (top-1, always token k) choose among them.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sapnet_pipe.data.bag_store.masks import TOKENS, MaskColumns, MaskFigures
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
    boxes = [masks.figures.box_xyxy[masks.figures.area > 0] for masks in alone]
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
    points = [masks.innermost_xy[masks.figures.area > 0] for masks in alone if masks.innermost_xy is not None]
    innermost = np.concatenate([np.zeros((0, 2)), *points])
    return np.where(np.isnan(innermost), click_xy, innermost)


def make_bag(image: ImageRecord, prompted: PromptedPoint, recipe: Recipe) -> tuple[Bag, Counter[str]]:
    """The bag of one point, and what was left out of it by reason; the RLEs are made here, on the CPU.

    A point for which all three masks of SAM are empty keeps the pixel under it, so that no bag is empty.
    """
    point, candidates = prompted.point, _Candidates(image.height, image.width)
    candidates.add(prompted.alone, 0, None)
    if not candidates.rle:
        candidates.add_pixel(point.xy, prompted.alone)
    tokens = [int(figures.source[0]) for figures in candidates.figures]  # of prompt 0, so these are the tokens 1..3
    for token, refined in zip(tokens, prompted.refined, strict=False):
        candidates.add(refined, token, recipe.duplicate_iou)
    bag = Bag(
        image_id=image.image_id,
        file_name=image.file_name,
        height=image.height,
        width=image.width,
        point_id=point.point_id,
        category_id=point.category_id,
        point_xy=point.xy,
        masks=candidates.masks(),
    )
    return bag, candidates.dropped


class _Candidates:
    """The masks of a bag as they gather, and a count of those left out."""

    def __init__(self, height: int, width: int) -> None:
        self.height, self.width = height, width
        self.rle: list[bytes] = []
        self.figures: list[MaskFigures] = []
        self.dropped: Counter[str] = Counter()

    def add(self, decoded: DecodedMasks, prompt_number: int, duplicate_iou: float | None) -> None:
        """Take the masks that are not empty and, if an IoU is given, not nearly equal to one already there."""
        for place, make_rle in enumerate(decoded.make_rle):
            if not decoded.figures.area[place]:
                self.dropped[EMPTY] += 1
                continue
            rle = make_rle()
            if duplicate_iou is not None and self._greatest_iou(rle) > duplicate_iou:
                self.dropped[DUPLICATE] += 1
                continue
            figures = decoded.figures.take([place])
            self.rle.append(rle)
            self.figures.append(replace(figures, source=figures.source + np.int8(prompt_number * TOKENS)))

    def add_pixel(self, point_xy: tuple[float, float], decoded: DecodedMasks) -> None:
        """Take the pixel under the point, in the name of SAM's best token: no bag is ever empty."""
        column, row = int(point_xy[0]), int(point_xy[1])
        mask = np.zeros((self.height, self.width), bool)
        mask[row, column] = True
        figures = decoded.figures.take([int(decoded.figures.score.argmax())])
        box_xyxy = np.array([[column, row, column + 1, row + 1]], np.float32)
        self.rle.append(encode_mask(mask))
        self.figures.append(
            replace(figures, box_xyxy=box_xyxy, area=np.ones(1, np.int32), stability=np.zeros(1, np.float32))
        )
        self.dropped[PIXEL] += 1

    def masks(self) -> MaskColumns:
        """All of them."""
        return MaskFigures.concat(self.figures).with_rle(self.rle)

    def _greatest_iou(self, rle: bytes) -> float:
        return float(rle_iou([rle], self.rle, self.height, self.width).max(initial=0.0))
