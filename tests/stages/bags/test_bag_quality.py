"""The fast path's masks against the exact path's, on photographs and on rendered scenes with known truth."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from sapnet_pipe.data.coco.instances import ImageRecord
from sapnet_pipe.data.coco.masks import decode_masks
from sapnet_pipe.data.scenes.dataset import TINY_SAM_TEST
from sapnet_pipe.data.scenes.scene import render_scene
from sapnet_pipe.stages.bags.recipes import RECIPES, Point, make_bag, prompt
from sapnet_pipe.stages.bags.sam.adapter import SamOptions, load_sam
from sapnet_pipe.stages.bags.sam.checkpoints import TINY_WEIGHTS
from tests.places import SHARED

CPU = torch.device("cpu")


@dataclass
class Clicks:
    """An image, (N, 2) points on it, and (N, H, W) true masks where they are known."""

    image: NDArray[np.uint8]
    xy: NDArray[np.float64]
    truth: NDArray[np.bool_] | None = None


def scene_clicks(count: int, first: int = 0) -> list[Clicks]:
    """One random point on every object of `count` scenes."""
    clicks = []
    for seed in TINY_SAM_TEST[first : first + count]:
        scene, rng = render_scene(seed), np.random.default_rng(seed)
        truth = np.stack([scene.instance_map == label for label in range(1, len(scene.class_index) + 1)])
        places = [rng.choice(np.argwhere(mask)) for mask in truth]
        clicks.append(Clicks(scene.image, np.array([(x + 0.5, y + 0.5) for y, x in places]), truth))
    return clicks


def photograph_clicks(count: int, per_image: int) -> list[Clicks]:
    """Random points on photographs; skips where there are none."""
    files = sorted((SHARED / "data" / "tiny-coco" / "images").rglob("*.jpg"))[:count]
    if not files:
        pytest.skip(f"no photographs in {SHARED}: set SAPNET_SHARED to the folder that holds data/tiny-coco")
    clicks = []
    for number, file in enumerate(files):
        image = np.array(Image.open(file).convert("RGB"))
        xy = np.random.default_rng(number).uniform(0, image.shape[1::-1], (per_image, 2))
        clicks.append(Clicks(image, xy))
    return clicks


def tokens_of(sam, clicks: Clicks) -> NDArray[np.bool_]:
    """(N, 3, H, W) masks of SAM's three tokens for each point."""
    (encoded,) = sam.encode([sam.prepare(clicks.image)])
    size = clicks.image.shape[:2]
    return np.stack(
        [decode_masks([rle() for rle in one.make_rle], *size) for one in sam.point_masks(encoded, clicks.xy)]
    )


def iou(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Of masks over the last two axes; 1 where both are empty."""
    union = (a | b).sum(axis=(-2, -1))
    return np.where(union, (a & b).sum(axis=(-2, -1)) / np.maximum(union, 1), 1.0)


def best_in_bag(sam, clicks: list[Clicks], recipe: str) -> NDArray[np.float64]:
    """The best IoU with the truth in each point's bag."""
    best = []
    for one in clicks:
        assert one.truth is not None
        height, width = one.image.shape[:2]
        record = ImageRecord(1, "scene", height, width)
        (encoded,) = sam.encode([sam.prepare(one.image)])
        points = [Point(row, 1, (x, y)) for row, (x, y) in enumerate(one.xy.tolist())]
        for prompted, truth in zip(prompt(sam, encoded, points, RECIPES[recipe]), one.truth, strict=True):
            bag, _ = make_bag(record, prompted, RECIPES[recipe])
            best.append(iou(decode_masks(bag.masks.rle, height, width), truth).max())
    return np.array(best)


def _compare(photographs: list[Clicks], scenes: list[Clicks], exact) -> None:
    fast = load_sam("tiny", TINY_WEIGHTS, CPU, SamOptions(torch.bfloat16))
    overlap = np.concatenate(
        [iou(tokens_of(exact, one), tokens_of(fast, one)).ravel() for one in [*photographs, *scenes]]
    )
    assert overlap.mean() >= 0.995
    assert np.percentile(overlap, 5) >= 0.98
    best = [best_in_bag(sam, scenes, "refined").mean() for sam in (exact, fast)]
    assert abs(best[0] - best[1]) <= 0.002
    assert best[0] > 0.7  # the tiny SAM did find the objects, so that the comparison says something


def test_fast_masks_are_the_exact_ones_but_for_rounding(tiny_sam):
    _compare(photograph_clicks(2, 4), scene_clicks(6), tiny_sam)


@pytest.mark.slow
def test_fast_masks_are_the_exact_ones_on_five_hundred_points(tiny_sam):
    photographs, scenes = photograph_clicks(38, 7), scene_clicks(70)
    assert sum(len(one.xy) for one in [*photographs, *scenes]) >= 500
    _compare(photographs, scenes, tiny_sam)


@pytest.mark.slow
def test_recipes_rise_from_three_masks_to_boxes_to_centres(tiny_sam):
    centred = load_sam("tiny", TINY_WEIGHTS, CPU, SamOptions(innermost=True))
    scenes = scene_clicks(60, first=100)
    multimask, refined = (best_in_bag(tiny_sam, scenes, name).mean() for name in ("multimask", "refined"))
    assert multimask + 0.01 < refined
    assert refined + 0.005 < best_in_bag(centred, scenes, "centred").mean()
