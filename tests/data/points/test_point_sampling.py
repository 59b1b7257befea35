from typing import Any

import numpy as np
import pytest

from sapnet_pipe.data.coco.instances import read_instances
from sapnet_pipe.data.coco.masks import encode_mask
from sapnet_pipe.data.errors import UserError
from sapnet_pipe.data.points.sampling import STRATEGIES, quasi_center, quasi_center_probability, sample_points, uniform
from tests.golden_record import Recorded
from tests.places import GOLDEN

AUTHORS = np.load(GOLDEN / "sapnet" / "points.npz")
CASES = range(int(AUTHORS["num_cases"]))


def golden(case: int, name: str) -> np.ndarray:
    return Recorded("sapnet/points", {name: AUTHORS[f"case{case}_{name}"]})[name]


@pytest.mark.parametrize("case", CASES)
def test_quasi_center_probability_is_that_of_the_release(case):
    probability = quasi_center_probability(golden(case, "mask").astype(bool))
    np.testing.assert_allclose(probability, golden(case, "prob"), rtol=0, atol=1e-9)


class Draws(np.random.Generator):
    """A generator whose draws are known."""

    def __init__(self, draws: np.ndarray) -> None:
        super().__init__(np.random.PCG64(0))
        self.draws = iter(draws.tolist())

    def random(self, *_: Any, **__: Any) -> Any:
        return next(self.draws)


@pytest.mark.parametrize("case", CASES)
def test_the_same_draws_fall_on_the_pixels_of_the_release(case):
    mask, draws = golden(case, "mask").astype(bool), Draws(golden(case, "uniform"))
    drawn = [quasi_center(mask, draws) for _ in golden(case, "uniform")]
    expected = golden(case, "points_without_jitter") - golden(case, "bbox_xywh")[:2]
    np.testing.assert_allclose(np.array(drawn)[:, ::-1], expected, atol=1e-6)


@pytest.fixture
def shapes(instances, save):
    """A disc, a ring with an empty middle, a line one pixel high, and a single pixel at the lower right corner."""
    y, x = np.mgrid[:40, :60]
    distance = (x - 20) ** 2 + (y - 18) ** 2
    line, corner = np.zeros((2, 40, 60), bool)
    line[39, 3:50] = corner[39, 59] = True
    masks = [distance < 100, (distance < 200) & (distance > 120), line, corner]
    instances["images"] = [{"id": 1, "file_name": "a.png", "height": 40, "width": 60}]
    instances["annotations"] = [
        {
            "id": 10 + i,
            "image_id": 1,
            "category_id": 9,
            "segmentation": {"size": [40, 60], "counts": encode_mask(mask).decode()},
        }
        for i, mask in enumerate(masks)
    ]
    return instances, masks


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_point_lies_in_its_mask_whatever_the_seed(shapes, save, strategy):
    document, masks = shapes
    dataset = read_instances(save(document))
    for seed in range(20):
        points = sample_points(dataset, strategy, seed)
        assert points.point_id.tolist() == [10, 11, 12, 13]
        for (x, y), mask in zip(points.xy, masks, strict=True):
            assert mask[int(y), int(x)]


def test_the_same_seed_gives_the_same_points_in_any_order_and_company(shapes, save):
    document, _ = shapes
    whole = sample_points(read_instances(save(document)), "quasi-center", 5)
    document["annotations"] = document["annotations"][2:0:-1]
    part = sample_points(read_instances(save(document)), "quasi-center", 5)
    np.testing.assert_array_equal(part.xy, whole.xy[1:3])
    other = sample_points(read_instances(save(document)), "quasi-center", 6)
    assert not np.array_equal(other.xy, part.xy)


def test_negative_ids_and_seeds_are_good_seeds(shapes, save):
    document, _ = shapes
    document["annotations"][0]["id"] = -4
    assert len(sample_points(read_instances(save(document)), "uniform", -1)) == 4


def test_center_is_the_pixel_centre_nearest_the_centre_of_mass(shapes, save):
    document, _ = shapes
    points = sample_points(read_instances(save(document)), "center", 0)
    assert points.xy[0].tolist() == [20.5, 18.5]
    assert points.xy[3].tolist() == [59.5, 39.5]


def test_uniform_reaches_every_pixel_and_nothing_else():
    mask = np.array([[1, 0, 1], [0, 1, 0]], bool)
    rng = np.random.default_rng(0)
    assert {uniform(mask, rng) for _ in range(200)} == {(0, 0), (0, 2), (1, 1)}


def test_crowds_missing_and_empty_masks_are_left_out_and_counted(instances, save):
    instances["annotations"] += [
        {"id": 40, "image_id": 7, "category_id": 9, "segmentation": {"size": [10, 20], "counts": [200]}},
        {"id": 41, "image_id": 7, "category_id": 9},
    ]
    points = sample_points(read_instances(save(instances)), "uniform", 0)
    assert points.dropped == {"crowd": 1, "without_mask": 1, "empty_mask": 1, "images_without_points": 1}
    assert points.point_id.tolist() == [29, 30]


def test_a_file_without_masks_or_an_unknown_strategy_is_refused(points_document, save):
    dataset = read_instances(save(points_document))
    with pytest.raises(UserError, match=r"none of which has a mask of one object .*crowd"):
        sample_points(dataset, "center", 0)
    with pytest.raises(UserError, match="Choose quasi-center, center, uniform"):
        sample_points(dataset, "middle", 0)
