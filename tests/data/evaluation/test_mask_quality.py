import json

import numpy as np
import pytest

from sapnet_pipe.data.coco.instances import read_instances
from sapnet_pipe.data.coco.masks import encode_mask
from sapnet_pipe.data.errors import UserError
from sapnet_pipe.data.evaluation.mask_quality import mask_quality
from sapnet_pipe.data.evaluation.objects import ObjectMatch


def by_id(pred, truth, extra=0):
    found = {annotation.annotation_id: annotation.annotation_id for annotation in truth.annotations}
    found = {key: key for key in pred if key in found}
    objects = sum(not annotation.iscrowd for annotation in truth.annotations)
    return ObjectMatch(truth, found, len(found), 0, objects - len(found), extra)


def rectangle(left: int, top: int, right: int, bottom: int) -> bytes:
    mask = np.zeros((200, 300), bool)
    mask[top:bottom, left:right] = True
    return encode_mask(mask)


@pytest.fixture
def truth(save):
    """Two cups side by side, a cup far away, a cat between them, and a crowd over everything."""
    boxes = [(0, 0, 10, 10), (11, 0, 21, 10), (100, 0, 140, 40), (40, 0, 50, 10), (0, 0, 300, 200)]
    document = {
        "images": [{"id": 1, "file_name": "a.png", "height": 200, "width": 300}],
        "categories": [{"id": 9, "name": "cup"}, {"id": 4, "name": "cat"}],
        "annotations": [
            {
                "id": 10 + i,
                "image_id": 1,
                "category_id": 4 if i == 3 else 9,
                "iscrowd": int(i == 4),
                "segmentation": {"size": [200, 300], "counts": rectangle(*box).decode()},
            }
            for i, box in enumerate(boxes)
        ],
    }
    return read_instances(save(document))


def test_matched_masks_are_measured_by_hand(truth):
    pred = {10: rectangle(0, 0, 10, 10), 11: rectangle(11, 0, 21, 5), 12: rectangle(100, 0, 140, 30), 99: b"unused"}
    quality = mask_quality(pred, by_id(pred, truth, extra=1))
    assert quality.miou == pytest.approx((1 + 0.5 + 0.75) / 3)
    assert quality.share_50 == 1
    assert quality.share_75 == pytest.approx(2 / 3)
    assert (quality.count, quality.missing, quality.extra) == (3, 1, 1)
    assert quality.by_size["small"].count == 2
    assert quality.by_size["medium"].miou == pytest.approx(0.75)
    assert quality.by_size["large"].count == 0
    assert quality.by_group["in_group"].miou == pytest.approx(0.75)
    assert quality.by_group["alone"].count == 1


def test_touching_neighbours_of_another_class_or_two_pixels_away_are_no_group(truth):
    pred = {annotation.annotation_id: rectangle(0, 0, 1, 1) for annotation in truth.annotations}
    quality = mask_quality(pred, by_id(pred, truth))
    assert (quality.by_group["in_group"].count, quality.by_group["alone"].count) == (2, 2)


def test_no_masks_at_all_give_zeros_that_json_can_hold(truth):
    quality = mask_quality({}, by_id({}, truth))
    assert (quality.miou, quality.count, quality.missing) == (0, 0, 4)
    json.dumps(quality.to_dict(), allow_nan=False)


def test_a_mask_of_another_size_is_named(truth):
    wrong = encode_mask(np.ones((20, 30), bool))
    with pytest.raises(UserError, match=r"p\.json: annotation 12\.segmentation = .*does not fit image 1"):
        mask_quality({12: wrong}, by_id([12], truth), source="p.json")


def test_a_truth_without_masks_is_refused(points_document, save):
    with pytest.raises(UserError, match="but a mask is needed here"):
        mask_quality({}, by_id({}, read_instances(save(points_document))))
