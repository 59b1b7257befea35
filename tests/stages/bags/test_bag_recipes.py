import dataclasses

import numpy as np
import pytest
import torch

from sapnet_pipe.data.coco.instances import ImageRecord
from sapnet_pipe.data.coco.masks import decode_masks
from sapnet_pipe.stages.bags.recipes import RECIPES, Point, make_bag, prompt
from sapnet_pipe.stages.bags.sam.adapter import EncodedImage
from tests.stages.bags.conftest import decoded_of

IMAGE = ImageRecord(4, "a.png", 40, 60)
POINT = Point(9, 2, (25.7, 20.2))


def rectangle(left, top, right, bottom):
    mask = np.zeros((IMAGE.height, IMAGE.width), bool)
    mask[top:bottom, left:right] = True
    return mask


EMPTY = rectangle(0, 0, 0, 0)
PART, WHOLE, GROUP = rectangle(20, 15, 30, 25), rectangle(10, 10, 40, 30), rectangle(0, 5, 60, 35)


# The scripted SAM never looks at the image.
ENCODED = EncodedImage(torch.empty(0), torch.empty(0), (40, 60), (40, 60))


class ScriptedSam:
    """Answers the point with three given masks and each box with the next of some others."""

    def __init__(self, point, boxes=()):
        self.point, self.boxes, self.asked = point, boxes, None
        self.innermost = np.array([(25, 20), (np.nan, np.nan), (30, 21)])

    def point_masks(self, encoded, point_xy):
        answer = self._answer(self.point, [1, 2, 3])
        return [dataclasses.replace(answer, innermost_xy=self.innermost)] * len(point_xy)

    def box_masks(self, encoded, point_xy, box_xyxy):
        self.asked, self.asked_xy = box_xyxy, point_xy
        answer = self._answer(self.boxes[: len(box_xyxy)], [0, 3, 1][: len(box_xyxy)])
        return [answer.rows(row, row + 1) for row in range(len(answer))]

    def _answer(self, masks, tokens):
        score = np.array([0.6, 0.9, 0.7], np.float32)[: len(masks)]
        stacked = np.stack([np.zeros((IMAGE.height, IMAGE.width), bool), *masks])[1:]
        return decoded_of(stacked, score, score - np.float32(0.1), tokens)


def _make(sam, recipe):
    (prompted,) = prompt(sam, ENCODED, [POINT], RECIPES[recipe])
    bag, dropped = make_bag(IMAGE, prompted, RECIPES[recipe])
    return bag, decode_masks(bag.masks.rle, IMAGE.height, IMAGE.width), dict(dropped)


def test_multimask_keeps_sams_three_masks_as_they_are():
    bag, masks, dropped = _make(ScriptedSam([PART, PART, GROUP]), "multimask")
    np.testing.assert_array_equal(masks, [PART, PART, GROUP])
    np.testing.assert_array_equal(bag.masks.box_xyxy, [[20, 15, 30, 25], [20, 15, 30, 25], [0, 5, 60, 35]])
    assert (bag.masks.area.tolist(), bag.masks.source.tolist(), dropped) == ([100, 100, 1800], [1, 2, 3], {})
    assert (bag.image_id, bag.point_id, bag.category_id, bag.point_xy) == (4, 9, 2, (25.7, 20.2))


def test_refined_adds_a_mask_for_the_box_of_each_of_the_three():
    others = [rectangle(18, 14, 30, 26), rectangle(8, 10, 44, 30), rectangle(0, 0, 60, 34)]
    sam = ScriptedSam([PART, WHOLE, GROUP], others)
    bag, masks, dropped = _make(sam, "refined")
    np.testing.assert_array_equal(masks, [PART, WHOLE, GROUP, *others])
    np.testing.assert_array_equal(sam.asked, [[20, 15, 30, 25], [10, 10, 40, 30], [0, 5, 60, 35]])
    assert (bag.masks.source.tolist(), dropped) == ([1, 2, 3, 4, 11, 13], {})  # prompt * 4 + token
    np.testing.assert_allclose(bag.masks.score, [0.6, 0.9, 0.7] * 2)
    np.testing.assert_allclose(bag.masks.stability, [0.5, 0.8, 0.6] * 2, atol=1e-6)


def test_centred_asks_with_the_innermost_points_and_with_the_click_where_there_is_none():
    others = [rectangle(18, 14, 30, 26), rectangle(8, 10, 44, 30), rectangle(0, 0, 60, 34)]
    sams = {name: ScriptedSam([PART, WHOLE, GROUP], others) for name in ("refined", "centred")}
    bags = {name: _make(sam, name)[0] for name, sam in sams.items()}
    np.testing.assert_array_equal(sams["refined"].asked_xy, [POINT.xy] * 3)
    np.testing.assert_array_equal(sams["centred"].asked_xy, [(25, 20), POINT.xy, (30, 21)])
    np.testing.assert_array_equal(sams["centred"].asked, sams["refined"].asked)
    assert bags["centred"].masks.source.tolist() == [1, 2, 3, 4, 11, 13]


def test_a_refined_mask_like_one_before_it_is_left_out_and_counted():
    nearly_whole = WHOLE.copy()
    nearly_whole[10, 10:39] = False  # 571 of 600 pixels: IoU 0.952
    fresh = rectangle(2, 2, 9, 9)
    bag, masks, dropped = _make(ScriptedSam([PART, WHOLE, GROUP], [nearly_whole, fresh, fresh]), "refined")
    np.testing.assert_array_equal(masks, [PART, WHOLE, GROUP, fresh])
    assert (bag.masks.source.tolist(), dropped) == ([1, 2, 3, 11], {"near_duplicate_masks": 2})


def test_a_refined_mask_just_under_the_bound_stays():
    less_whole = WHOLE.copy()
    less_whole[10, :] = False  # 570 of 600 pixels: IoU 0.95, not above
    bag, _, dropped = _make(ScriptedSam([PART, WHOLE, GROUP], [less_whole, PART, GROUP]), "refined")
    assert (len(bag.masks.rle), dropped) == (4, {"near_duplicate_masks": 2})


def test_empty_masks_are_left_out_and_counted_and_prompts_keep_their_number():
    sam = ScriptedSam([PART, EMPTY, GROUP], [EMPTY, rectangle(5, 5, 50, 33)])
    bag, _, dropped = _make(sam, "refined")
    np.testing.assert_array_equal(sam.asked, [[20, 15, 30, 25], [0, 5, 60, 35]])
    assert (bag.masks.source.tolist(), dropped) == ([1, 3, 15], {"empty_masks": 2})


@pytest.mark.parametrize("recipe", ["multimask", "refined"])
def test_a_point_that_sam_gives_nothing_keeps_the_pixel_under_it(recipe):
    bag, masks, dropped = _make(ScriptedSam([EMPTY] * 3), recipe)
    np.testing.assert_array_equal(masks, [rectangle(25, 20, 26, 21)])
    assert (bag.masks.source.tolist(), bag.masks.area.tolist(), bag.masks.stability.tolist()) == ([2], [1], [0.0])
    assert bag.masks.score.tolist() == pytest.approx([0.9])
    assert dropped == {"empty_masks": 3, "points_kept_as_one_pixel": 1}


def test_a_real_sam_refines_within_its_image(tiny_sam, photographs):
    image = photographs[0]
    height, width = image.shape[:2]
    (encoded,) = tiny_sam.encode([tiny_sam.prepare(image)])
    record, point = ImageRecord(1, "a.jpg", height, width), Point(1, 1, (width / 2, height / 2))
    multimask, refined = (
        make_bag(record, prompt(tiny_sam, encoded, [point], RECIPES[name])[0], RECIPES[name])[0]
        for name in ("multimask", "refined")
    )
    first = len(multimask.masks.rle)
    assert refined.masks.rle[:first] == multimask.masks.rle
    assert first <= len(refined.masks.rle) <= 6
    assert (refined.masks.source[:first] < 4).all()
    assert (refined.masks.source[first:] >= 4).all()
    assert (refined.masks.box_xyxy >= 0).all()
    assert (refined.masks.box_xyxy <= [width, height, width, height]).all()
