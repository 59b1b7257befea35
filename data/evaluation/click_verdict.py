"""How good predictions are by clicks alone, for people without masks: counts, precision, recall, F1 by score threshold.

Precision counts a prediction as wrong that doubles an object, and one that holds clicks of other classes only. One that
holds no click at all is wrong only if the clicks are exhaustive (every object of the photographs has one); otherwise it
is counted apart, and precision is that of the predictions on clicks. Photographs without a click count too.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sapnet_pipe.data.coco.document import Category
from sapnet_pipe.data.coco.masks import rle_contains
from sapnet_pipe.data.evaluation.click_matching import ClickMatch, match_clicks
from sapnet_pipe.data.points.point_set import PointSet
from sapnet_pipe.data.progress import progress_bar

THRESHOLDS = tuple(round(0.05 * step, 2) for step in range(20))
_COUNTED = ("clicks", "predictions", "found", "missed", "merged", "doubled", "on_other_class", "without_click")


@dataclass(frozen=True)
class _Photo:
    """The clicks of a photograph and the predictions on it, those of the highest score first."""

    image_id: int
    clicks: NDArray[np.int64]
    classes: NDArray[np.int64]
    scores: NDArray[np.float64]
    holds: NDArray[np.bool_]


@dataclass
class ClickVerdict:
    """The verdict at every threshold.

    Attributes:
        categories: Of the points file.
        exhaustive: Whether every object has a click.
        best: The threshold of the highest F1 over all classes, the lowest of equals.
        by_threshold: Threshold -> category id (None for all) -> counts, ``precision``, ``recall`` and ``f1``.
        confusion: (class of a click, class of the mask on it) -> number, at the best threshold.
        counts: Rows (image id, category id, clicks, predictions) at the best threshold.
    """

    categories: tuple[Category, ...]
    exhaustive: bool
    best: float = 0.0
    by_threshold: dict[float, dict[int | None, dict[str, Any]]] = field(default_factory=dict)
    confusion: dict[tuple[int, int], int] = field(default_factory=dict)
    counts: list[tuple[int, int, int, int]] = field(default_factory=list)

    def count_errors(self, category_id: int | None = None) -> dict[str, float]:
        """MAE, RMSE and bias (predictions less clicks) of the counts per photograph."""
        if category_id is None:
            sums = defaultdict[int, int](int)
            for image_id, _, clicks, predictions in self.counts:
                sums[image_id] += predictions - clicks
            errors = np.array(list(sums.values()), float)
        else:
            errors = np.array([row[3] - row[2] for row in self.counts if row[1] == category_id], float)
        if not len(errors):
            return {"mae": 0.0, "rmse": 0.0, "bias": 0.0}
        figures = {"mae": np.abs(errors).mean(), "rmse": np.sqrt((errors**2).mean()), "bias": errors.mean()}
        return {name: float(value) for name, value in figures.items()}


def click_verdict(
    points: PointSet, detections: Iterable[dict[str, Any]], *, exhaustive: bool = False, quiet: bool = True
) -> ClickVerdict:
    """Measure predictions by clicks.

    Args:
        detections: In the ids of the points, as `detections.checked_detections` gives them.
        exhaustive: Whether every object of the photographs has a click.
    """
    photos, ids = _photos(points, detections, quiet), sorted(category.category_id for category in points.categories)
    verdict = ClickVerdict(points.categories, exhaustive)
    for threshold in THRESHOLDS:
        verdict.by_threshold[threshold] = _figures(photos, threshold, verdict)
    verdict.best = max(THRESHOLDS, key=lambda one: (verdict.by_threshold[one][None]["f1"], -one))
    for photo in photos:
        kept, match = _match(photo, verdict.best)
        for click_class, mask_class in zip(photo.clicks.tolist(), match.confused_with.tolist(), strict=True):
            if mask_class >= 0:
                pair = click_class, mask_class
                verdict.confusion[pair] = verdict.confusion.get(pair, 0) + 1
        numbers = (_by_class(of, ids).tolist() for of in (photo.clicks, photo.classes[:kept]))
        verdict.counts += [(photo.image_id, *row) for row in zip(ids, *numbers, strict=True)]
    return verdict


def _photos(points: PointSet, detections: Iterable[dict[str, Any]], quiet: bool) -> list[_Photo]:
    by_image = defaultdict[int, list[dict[str, Any]]](list)
    for one in detections:
        by_image[one["image_id"]].append(one)
    photos = []
    for image_id, image in progress_bar(
        sorted(points.images.items()), desc="matching", unit="img", quiet=quiet, leave=False
    ):
        first, last = np.searchsorted(points.image_id, [image_id, image_id + 1])
        xy = points.xy[first:last]
        found = sorted(by_image.get(image_id, ()), key=lambda one: -one["score"])
        holds = np.zeros((len(found), len(xy)), bool)
        for row, one in enumerate(found if len(xy) else ()):
            holds[row] = rle_contains(one["segmentation"]["counts"], image.height, image.width, xy)
        classes = np.array([one["category_id"] for one in found], np.int64)
        scores = np.array([one["score"] for one in found], float)
        photos.append(_Photo(image_id, points.category_id[first:last].astype(np.int64), classes, scores, holds))
    return photos


def _match(photo: _Photo, threshold: float) -> tuple[int, ClickMatch]:
    """How many predictions reach the threshold, and their match."""
    kept = int((photo.scores >= threshold).sum())
    return kept, match_clicks(photo.holds[:kept], photo.scores[:kept], photo.classes[:kept], photo.clicks)


def _figures(photos: Sequence[_Photo], threshold: float, verdict: ClickVerdict) -> dict[int | None, dict[str, Any]]:
    ids = sorted(category.category_id for category in verdict.categories)
    sums = {name: np.zeros(len(ids), np.int64) for name in _COUNTED}
    for photo in photos:
        kept, match = _match(photo, threshold)
        wrong = (match.taken < 0) & ~match.doubled & ~match.empty
        masks = {"doubled": match.doubled, "on_other_class": wrong, "without_click": match.empty}
        for name, values in ({"found": match.found, "merged": match.merged, "clicks": None}).items():
            sums[name] += _by_class(photo.clicks, ids, values)
        for name, values in (masks | {"predictions": None}).items():
            sums[name] += _by_class(photo.classes[:kept], ids, values)
    sums["missed"] = sums["clicks"] - sums["found"]
    counts: dict[int | None, dict[str, Any]] = {
        key: {name: int(values[place]) for name, values in sums.items()} for place, key in enumerate(ids)
    }
    counts[None] = {name: int(values.sum()) for name, values in sums.items()}
    for row in counts.values():
        judged = row["predictions"] - (0 if verdict.exhaustive else row["without_click"])
        row["precision"] = row["found"] / judged if judged else 0.0
        row["recall"] = row["found"] / row["clicks"] if row["clicks"] else 0.0
        both = row["precision"] + row["recall"]
        row["f1"] = 2 * row["precision"] * row["recall"] / both if both else 0.0
    return counts


def _by_class(of: NDArray[np.int64], ids: Sequence[int], chosen: NDArray[np.bool_] | None = None) -> NDArray[np.int64]:
    """(K,) how many of `of`, those that are chosen, have each of the ascending category ids."""
    return np.bincount(np.searchsorted(ids, of if chosen is None else of[chosen]), minlength=len(ids))
