from pathlib import Path

import numpy as np
import pytest

from sapnet_pipe.data.coco.document import Category, ImageRecord
from sapnet_pipe.data.errors import UserError
from sapnet_pipe.data.points.hold_out import hold_out
from sapnet_pipe.data.points.point_set import build_point_set


def points_of(images, seed=0):
    rng = np.random.default_rng(seed)
    records = {number: ImageRecord(number, f"{number}.png", 20, 20) for number in range(1, images + 1)}
    rows, number = [], 0
    for image_id in records:
        for _ in range(int(rng.integers(0, 6))):
            number += 1
            rows.append((image_id, number, int(rng.choice([3, 7], p=[0.9, 0.1])), 1.0, 1.0))
    return build_point_set(Path("p.json"), records, (Category(3, "a"), Category(7, "b")), rows, {})


@pytest.mark.parametrize("seed", range(5))
def test_every_class_keeps_its_share(seed):
    points = points_of(200, seed)
    kept, held = hold_out(points, 0.2, seed)
    assert len(kept) + len(held) == len(points)
    assert not set(kept.images) & set(held.images)
    for category in (3, 7):
        share = (held.category_id == category).sum() / (points.category_id == category).sum()
        assert share == pytest.approx(0.2, abs=0.04)
    assert len(held.images) / 200 == pytest.approx(0.2, abs=0.04)


def test_the_seed_decides():
    points = points_of(50)
    assert hold_out(points, 0.2, 1)[1].images.keys() == hold_out(points, 0.2, 1)[1].images.keys()
    assert hold_out(points, 0.2, 1)[1].images.keys() != hold_out(points, 0.2, 2)[1].images.keys()


def test_one_photograph_cannot_be_split():
    with pytest.raises(UserError, match="--hold-out"):
        hold_out(points_of(1, 3), 0.2, 0)
