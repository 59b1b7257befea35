"""The recipes by which SAM's masks for one point become its bag.

``multimask``: SAM's three masks for the point. ``refined``: after them up to three more, one for the point together
with the box of each of the three; a refined mask that nearly repeats a mask before it is left out. The three masks of
the point alone always stay, alike or not: the baselines (top-1, always token k) choose among them.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.bag_choice import TOKENS
from data.bag_schema import Bag
from data.coco import ImageRecord
from data.masks import encode_masks, rle_area, rle_box, rle_iou
from stages.bags.sam import STABILITY_OFFSET, DecodedMasks, EncodedImage, SamPrompter

EMPTY, DUPLICATE, PIXEL = "empty_masks", "near_duplicate_masks", "points_kept_as_one_pixel"


@dataclass(frozen=True, slots=True)
class Recipe:
    """A named way to make bags; every constant here decides the masks and is part of the fingerprint."""

    name: str
    refine: bool
    duplicate_iou: float = 0.95
    stability_offset: float = STABILITY_OFFSET
    box_token: str = "best of 0-3"

    def settings(self) -> Mapping[str, Any]:
        """The constants, without the name, as JSON values."""
        constants = asdict(self)
        del constants["name"]
        return constants


RECIPES = {recipe.name: recipe for recipe in (Recipe("multimask", refine=False), Recipe("refined", refine=True))}


@dataclass(frozen=True, slots=True)
class PromptedPoint:
    """One row of a point set; `xy` in original-image pixels."""

    point_id: int
    category_id: int
    xy: tuple[float, float]


@dataclass(slots=True)
class _Candidates:
    """The masks of a bag as they gather, and a count of those left out."""

    height: int
    width: int
    counts: list[bytes] = field(default_factory=list)
    score: list[float] = field(default_factory=list)
    stability: list[float] = field(default_factory=list)
    source: list[int] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)

    def add(self, decoded: DecodedMasks, prompts: NDArray[np.int8], duplicate_iou: float | None) -> None:
        """Take the masks that are not empty and, if an IoU is given, not nearly equal to one already there."""
        for place, counts in enumerate(encode_masks(decoded.masks)):
            if not decoded.masks[place].any():
                self.dropped[EMPTY] += 1
            elif duplicate_iou is not None and self._greatest_iou(counts) > duplicate_iou:
                self.dropped[DUPLICATE] += 1
            else:
                source = int(prompts[place]) * TOKENS + int(decoded.token[place])
                self._append(counts, decoded.score[place], decoded.stability[place], source)

    def add_pixel(self, point_xy: tuple[float, float], decoded: DecodedMasks) -> None:
        """Take the pixel under the point, in the name of SAM's best token: no bag is ever empty."""
        mask = np.zeros((1, self.height, self.width), bool)
        mask[0, int(point_xy[1]), int(point_xy[0])] = True
        best = int(decoded.score.argmax())
        self._append(encode_masks(mask)[0], decoded.score[best], 0.0, int(decoded.token[best]))
        self.dropped[PIXEL] += 1

    def boxes(self) -> NDArray[np.float32]:
        """(M, 4) XYXY of the masks so far."""
        return np.stack([rle_box(counts, self.height, self.width) for counts in self.counts])

    def _append(self, counts: bytes, score: float, stability: float, source: int) -> None:
        self.counts.append(counts)
        self.score.append(score)
        self.stability.append(stability)
        self.source.append(source)

    def _greatest_iou(self, counts: bytes) -> float:
        return float(rle_iou([counts], self.counts, self.height, self.width).max(initial=0.0))


def make_bag(
    sam: SamPrompter, encoded: EncodedImage, image: ImageRecord, point: PromptedPoint, recipe: Recipe
) -> tuple[Bag, Counter[str]]:
    """The bag of one point, and what was left out of it by reason.

    A point for which all three masks of SAM are empty keeps the pixel under it, so that no bag is empty.
    """
    candidates = _Candidates(image.height, image.width)
    alone = sam.point_masks(encoded, point.xy)
    candidates.add(alone, np.zeros(len(alone.token), np.int8), None)
    if not candidates.counts:
        candidates.add_pixel(point.xy, alone)
    elif recipe.refine:
        prompts = np.array(candidates.source, np.int8)  # of prompt 0, so these are the tokens 1..3
        refined = sam.box_masks(encoded, point.xy, candidates.boxes())
        candidates.add(refined, prompts, recipe.duplicate_iou)
    return _bag(candidates, image, point), candidates.dropped


def _bag(candidates: _Candidates, image: ImageRecord, point: PromptedPoint) -> Bag:
    area = [rle_area(counts, image.height, image.width) for counts in candidates.counts]
    return Bag(
        image_id=image.image_id,
        file_name=image.file_name,
        height=image.height,
        width=image.width,
        point_id=point.point_id,
        category_id=point.category_id,
        point_xy=point.xy,
        counts=candidates.counts,
        box_xyxy=candidates.boxes(),
        area=np.array(area, np.int32),
        score=np.array(candidates.score, np.float32),
        stability=np.array(candidates.stability, np.float32),
        source=np.array(candidates.source, np.int8),
    )
