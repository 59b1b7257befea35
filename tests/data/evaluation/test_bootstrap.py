"""Errors over photographs, on numbers worked out by hand."""

import numpy as np
import pytest

from sapnet_pipe.data.evaluation.bootstrap import bootstrap_mean, sign_flip_test


def test_the_error_over_photographs_is_that_of_the_mean_of_equal_photographs() -> None:
    # Four photographs of two equal objects each, means 0, 0, 1, 1: the error of their mean is sqrt(0.25 / 4) = 0.25.
    values, photograph = np.repeat([0.0, 0.0, 1.0, 1.0], 2), np.repeat(np.arange(4), 2)
    found = bootstrap_mean(values, photograph, draws=20_000)
    assert found is not None
    assert found.mean == 0.5
    assert found.error == pytest.approx(0.25, abs=0.005)
    assert (found.low, found.high) == (0.0, 1.0)


def test_objects_of_one_photograph_are_no_evidence_of_their_own() -> None:
    rng = np.random.default_rng(0)
    of_photograph = rng.normal(size=50)
    once = bootstrap_mean(of_photograph, np.arange(50))
    often = bootstrap_mean(np.repeat(of_photograph, 20), np.repeat(np.arange(50), 20))
    assert once is not None
    assert often is not None
    assert often.error == pytest.approx(once.error, rel=1e-9)


def test_photographs_with_more_objects_weigh_more() -> None:
    found = bootstrap_mean(np.array([1.0, 0.0, 0.0, 0.0]), np.array([5, 9, 9, 9]))
    assert found is not None
    assert found.mean == 0.25


def test_one_photograph_has_no_error_and_none_has_no_mean() -> None:
    single = bootstrap_mean(np.array([0.5, 0.7]), np.array([3, 3]))
    assert single == (pytest.approx(0.6), None, None, None)
    assert bootstrap_mean(np.zeros(0), np.zeros(0, np.int64)) is None
    assert sign_flip_test(np.array([0.5, 0.7]), np.array([3, 3])) is None


def test_the_same_numbers_give_the_same_error_in_small_pieces_too(monkeypatch: pytest.MonkeyPatch) -> None:
    values, photograph = np.random.default_rng(1).normal(size=90), np.arange(90) // 3
    whole = bootstrap_mean(values, photograph), sign_flip_test(values, photograph)
    monkeypatch.setattr("sapnet_pipe.data.evaluation.bootstrap._AT_ONCE", 1000)
    assert (bootstrap_mean(values, photograph), sign_flip_test(values, photograph)) == whole


def test_p_of_four_photographs_that_agree_is_two_of_sixteen_signs() -> None:
    # Of the 16 signs of 1, 1, 1, 1 two give a sum of 4.
    assert sign_flip_test(np.ones(4), np.arange(4), draws=40_000) == pytest.approx(2 / 16, abs=0.006)
    assert sign_flip_test(np.array([1.0, -1.0]), np.arange(2)) == 1.0
    assert sign_flip_test(np.zeros(5), np.arange(5)) == 1.0


def test_rows_that_differ_everywhere_are_told_from_chance() -> None:
    difference = np.random.default_rng(2).normal(0.02, 0.01, size=300)
    assert sign_flip_test(difference, np.arange(300) // 3, draws=999) == pytest.approx(1 / 1000)
