from pathlib import Path

import numpy as np
import pytest

from sapnet_pipe.data.coco.document import Category, ImageRecord
from sapnet_pipe.data.coco.masks import encode_mask
from sapnet_pipe.data.evaluation.click_verdict import click_verdict
from sapnet_pipe.data.points.point_set import build_point_set

CATEGORIES = (Category(1, "cat"), Category(2, "dog"))


def points_of(*rows):
    images = {number: ImageRecord(number, f"{number}.png", 20, 20) for number in (1, 2)}
    numbered = [(image, number, category, x, y) for number, (image, category, x, y) in enumerate(rows, 1)]
    return build_point_set(Path("points.json"), images, CATEGORIES, numbered, {})


def detection(image_id, category_id, score, left, top, right, bottom):
    mask = np.zeros((20, 20), bool)
    mask[top:bottom, left:right] = True
    segmentation = {"size": [20, 20], "counts": encode_mask(mask)}
    return {"image_id": image_id, "category_id": category_id, "score": score, "segmentation": segmentation}


CLICKS = points_of((1, 1, 3, 3), (1, 1, 12, 3), (1, 2, 3, 15))
DETECTIONS = [
    detection(1, 1, 0.9, 0, 0, 6, 6),  # finds the first cat
    detection(1, 1, 0.8, 1, 1, 5, 5),  # doubles it
    detection(1, 1, 0.7, 0, 12, 6, 18),  # on the dog
    detection(2, 2, 0.6, 0, 0, 6, 6),  # without a click
]


def test_every_kind_is_counted():
    row = click_verdict(CLICKS, DETECTIONS).by_threshold[0.5][None]
    assert {name: row[name] for name in ("clicks", "predictions", "found", "missed", "doubled", "merged")} == {
        "clicks": 3,
        "predictions": 4,
        "found": 1,
        "missed": 2,
        "doubled": 1,
        "merged": 0,
    }
    assert (row["on_other_class"], row["without_click"]) == (1, 1)


@pytest.mark.parametrize(("exhaustive", "precision"), [(True, 1 / 4), (False, 1 / 3)])
def test_predictions_without_a_click_are_wrong_only_if_clicks_are_exhaustive(exhaustive, precision):
    row = click_verdict(CLICKS, DETECTIONS, exhaustive=exhaustive).by_threshold[0.5][None]
    assert row["precision"] == pytest.approx(precision)
    assert row["recall"] == pytest.approx(1 / 3)


def test_the_threshold_of_the_highest_f1_is_named_and_counted_at():
    verdict = click_verdict(CLICKS, DETECTIONS)
    assert verdict.best == 0.85  # the first cat alone: precision 1, recall 1/3
    assert verdict.counts == [(1, 1, 2, 1), (1, 2, 1, 0), (2, 1, 0, 0), (2, 2, 0, 0)]
    assert verdict.count_errors() == {"mae": 1.0, "rmse": pytest.approx(2**0.5), "bias": -1.0}


def test_confusion_is_by_the_class_of_the_click():
    only = points_of((1, 2, 3, 15))
    assert click_verdict(only, DETECTIONS[2:3]).confusion == {(2, 1): 1}


def test_no_prediction_is_a_verdict_too():
    row = click_verdict(CLICKS, []).by_threshold[0.5][None]
    assert (row["precision"], row["recall"], row["f1"], row["missed"]) == (0, 0, 0, 3)
