import itertools

import numpy as np
import pytest

from sapnet_pipe.data.bag_store.masks import MaskFigures
from sapnet_pipe.data.bag_store.table import BagTable, baseline_choice, best_in_bag
from sapnet_pipe.data.errors import UserError


def _table(bags):
    """Bags of (source, score, area) rows."""
    rows = [row for bag in bags for row in bag]
    source, score, area = (np.array([row[column] for row in rows]) for column in range(3))
    count, total = len(bags), len(rows)
    return BagTable(
        image_id=np.arange(count), file_name=np.array(["a"] * count, object), height=np.full(count, 9, np.int32),
        width=np.full(count, 9, np.int32), point_id=np.arange(count), category_id=np.ones(count, np.int32),
        point_xy=np.zeros((count, 2), np.float32), offsets=np.cumsum([0, *map(len, bags)]),
        masks=MaskFigures(
            box_xyxy=np.zeros((total, 4), np.float32), score=score.astype(np.float32),
            stability=np.ones(total, np.float32), area=area.astype(np.int32), source=source.astype(np.int8),
        ),
    )  # fmt: skip


BAGS = [
    [(1, 0.7, 10), (2, 0.9, 30), (3, 0.8, 20), (4, 0.99, 15)],  # the refined mask scores best, but is not SAM's own
    [(3, 0.2, 5)],
    [(1, 0.5, 7), (3, 0.5, 7), (13, 0.5, 7)],  # ties; token 2 was empty
]


@pytest.mark.parametrize(
    ("baseline", "choice"),
    [
        ("sam-top1", [1, 0, 0]),
        ("largest", [1, 0, 0]),
        ("token-1", [0, 0, 0]),
        ("token-2", [1, 0, 0]),
        ("token-3", [2, 0, 1]),
    ],
)
def test_baselines_take_the_mask_that_their_name_says(baseline, choice):
    assert baseline_choice(_table(BAGS), baseline).tolist() == choice


@pytest.mark.parametrize("baseline", ["token-0", "token-4", "token-", "best", ""])
def test_an_unknown_baseline_lists_the_known_ones(baseline):
    with pytest.raises(UserError, match="sam-top1, largest, token-1"):
        baseline_choice(_table(BAGS), baseline)


def test_best_in_bag_agrees_with_a_loop():
    rng = np.random.default_rng(0)
    sizes = rng.integers(1, 7, 200)
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    values = rng.integers(0, 4, offsets[-1])
    wanted = [int(values[a:b].argmax()) for a, b in itertools.pairwise(offsets)]
    assert best_in_bag(values, offsets).tolist() == wanted


def test_no_bags_give_no_choice():
    assert best_in_bag(np.zeros(0), np.zeros(1, np.int64)).shape == (0,)
