from pathlib import Path

import pytest

from sapnet_pipe.data.coco.instances import Category, ImageRecord, InstanceAnnotation, InstanceDataset
from sapnet_pipe.data.errors import UserError
from sapnet_pipe.data.evaluation.identity import same_ids
from sapnet_pipe.data.evaluation.objects import Clicked, match_labels, match_objects

IMAGES = {n: ImageRecord(n, f"{n}.png", 100, 100) for n in (1, 2)}
KINDS = (Category(1, "cup"), Category(2, "jug"))


def square(number, left, top, side=10, *, image_id=1, category_id=1, crowd=False, **extra):
    right, bottom = left + side, top + side
    corners = [[left, top, right, top, right, bottom, left, bottom]]
    return InstanceAnnotation(number, image_id, category_id, corners, None, None, crowd, extra)


def truth_of(*annotations):
    return InstanceDataset(Path("truth.json"), IMAGES, KINDS, annotations)


def click(number, x, y, *, image_id=1, category_id=1):
    return Clicked(number, image_id, category_id, x, y)


def matched(truth, *clicks):
    found = match_objects(clicks, same_ids(truth))
    return dict(found.found), found.counts()


def test_ids_count_where_photograph_category_and_click_agree():
    truth = truth_of(square(7, 0, 0), square(8, 50, 50))
    figures = {"by_id": 2, "by_click": 0, "missing": 0, "extra": 0}
    assert matched(truth, click(7, 5, 5), click(8, 48, 55)) == ({7: 7, 8: 8}, figures)  # the second just beside it


@pytest.mark.parametrize(
    "chance",
    [
        pytest.param(square(7, 0, 0, image_id=2), id="another photograph"),
        pytest.param(square(7, 0, 0, category_id=2), id="another category"),
        pytest.param(square(7, 80, 80), id="far from the click"),
        pytest.param(square(7, 7, 0, 3), id="beside a click that another mask holds"),
    ],
)
def test_an_id_that_is_equal_by_chance_does_not_count(chance):
    truth = truth_of(chance, square(9, 0, 0, 7))
    assert matched(truth, click(7, 5, 5))[0] == {7: 9}


def test_of_the_masks_that_hold_a_click_the_smallest_is_taken_and_every_object_once():
    truth = truth_of(square(1, 0, 0, 40), square(2, 10, 10, 10), square(3, 0, 0, 100, crowd=True))
    assert matched(truth, click(11, 12, 12), click(12, 30, 30))[0] == {11: 2, 12: 1}
    found, figures = matched(truth, click(11, 30, 30), click(12, 31, 31), click(13, 90, 90))
    assert found == {11: 1}
    assert figures == {"by_id": 0, "by_click": 1, "missing": 1, "extra": 2}


def test_ids_win_over_clicks_where_masks_overlap():
    truth = truth_of(square(1, 0, 0, 40), square(2, 10, 10, 10))
    assert matched(truth, click(1, 12, 12), click(5, 13, 13))[0] == {1: 1, 5: 2}


def test_which_of_two_clicks_on_one_object_is_taken_does_not_hang_on_their_ids():
    truth = truth_of(square(1, 0, 0))
    assert matched(truth, click(5, 3, 3), click(6, 4, 4))[0] == {5: 1}
    assert matched(truth, click(5, 4, 4), click(6, 3, 3))[0] == {6: 1}


def test_nothing_in_common_is_refused():
    truth = truth_of(square(1, 0, 0))
    with pytest.raises(UserError, match=r"truth\.json: annotations = 1 objects, none of which holds any of 1 clicks"):
        matched(truth, click(5, 90, 90))


def test_what_is_left_over_is_named():
    truth = truth_of(square(1, 0, 0))
    found = match_objects([click(1, 5, 5), click(4, 90, 90)], same_ids(truth))
    assert found.notes == ("1 objects are not in truth.json and do not count (first id 4, image 1).",)


def test_labels_have_their_clicks_or_the_middle_of_their_masks():
    truth = truth_of(square(1, 0, 0), square(2, 50, 50))
    labels = truth_of(square(1, 50, 50), square(2, 1, 1, point=[3.5, 3.5]), square(3, 0, 0, 100, crowd=True))
    masks, found = match_labels(labels, truth)
    assert (sorted(masks), dict(found.found)) == ([1, 2], {1: 2, 2: 1})


def test_a_wrong_mask_with_the_right_id_and_without_a_click_is_measured_as_wrong():
    _, found = match_labels(truth_of(square(1, 70, 70)), truth_of(square(1, 0, 0)))
    assert dict(found.found) == {1: 1}
