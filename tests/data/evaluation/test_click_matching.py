import numpy as np
import pytest

from sapnet_pipe.data.evaluation.click_matching import match_clicks


def match(holds, scores, predictions, clicks):
    holds = np.array(holds, bool).reshape(len(scores), len(clicks))
    return match_clicks(holds, np.array(scores, float), np.array(predictions, np.int64), np.array(clicks, np.int64))


def test_a_mask_on_a_click_of_its_class_finds_it():
    found = match([[1]], [0.9], [1], [1])
    assert (found.taken.tolist(), found.found.tolist(), found.empty.tolist()) == ([0], [True], [False])


def test_a_second_mask_on_a_click_doubles_it():
    found = match([[1], [1]], [0.5, 0.9], [1, 1], [1])
    assert found.taken.tolist() == [-1, 0]
    assert found.doubled.tolist() == [True, False]


def test_a_mask_on_two_clicks_finds_one_and_merges_the_other():
    found = match([[1, 1]], [0.9], [1], [1, 1])
    assert (found.found.tolist(), found.merged.tolist(), found.merges.tolist()) == (
        [True, False],
        [False, True],
        [True],
    )


def test_a_large_mask_leaves_the_click_that_another_mask_holds_alone():
    found = match([[1, 1], [1, 0]], [0.9, 0.8], [1, 1], [1, 1])
    assert found.taken.tolist() == [1, 0]
    assert found.merged.tolist() == [False, False]


def test_a_mask_of_another_class_is_confused_and_not_found():
    found = match([[1]], [0.9], [2], [1])
    assert (found.found.tolist(), found.confused_with.tolist(), found.empty.tolist()) == ([False], [2], [False])


def test_a_click_in_a_mask_of_its_class_is_not_confused_with_another_mask_on_it():
    assert match([[1], [1]], [0.9, 0.8], [2, 1], [1]).confused_with.tolist() == [-1]


def test_a_mask_without_a_click_is_empty():
    assert match([[0]], [0.9], [1], [1]).empty.tolist() == [True]


@pytest.mark.parametrize(("predictions", "clicks"), [(0, 0), (0, 2), (2, 0)])
def test_nothing_matches_nothing(predictions, clicks):
    found = match(np.zeros((predictions, clicks)), [0.5] * predictions, [1] * predictions, [1] * clicks)
    assert not found.found.any()
    assert len(found.confused_with) == clicks
    assert found.empty.tolist() == [True] * predictions
