"""Errors of a mean over objects by resampling photographs: objects of one photograph share their luck.

N objects in P photographs. An error is not known (None) where there is only one photograph.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

DRAWS = 2000
_AT_ONCE = 2_000_000  # numbers in memory


class Estimate(NamedTuple):
    """A mean, its standard error, and the interval that holds it in 95 of 100 resamplings."""

    mean: float
    error: float | None
    low: float | None
    high: float | None


def by_photograph(values: NDArray[np.float64], photograph: NDArray[np.int64]) -> tuple[NDArray, NDArray]:
    """Sums and counts (P,) of the values (N,) of each photograph."""
    _, place = np.unique(photograph, return_inverse=True)
    return np.bincount(place, values), np.bincount(place)


def bootstrap_mean(
    values: NDArray[np.float64], photograph: NDArray[np.int64], *, draws: int = DRAWS, seed: int = 0
) -> Estimate | None:
    """The mean of the values (N,), its error over the photographs (N,); None of no values."""
    if not len(values):
        return None
    sums, counts = by_photograph(values, photograph)
    mean = float(sums.sum() / counts.sum())
    if len(sums) < 2:
        return Estimate(mean, None, None, None)
    rng = np.random.default_rng(seed)
    means = []
    for chunk in _chunks(draws, len(sums)):
        times = rng.multinomial(len(sums), np.full(len(sums), 1 / len(sums)), size=chunk)  # (chunk, P)
        means.append((times @ sums) / (times @ counts))
    drawn = np.concatenate(means)
    low, high = np.quantile(drawn, (0.025, 0.975))
    return Estimate(mean, float(drawn.std(ddof=1)), float(low), float(high))


def sign_flip_test(
    difference: NDArray[np.float64], photograph: NDArray[np.int64], *, draws: int = 10_000, seed: int = 0
) -> float | None:
    """How often chance alone makes the mean difference (N,) of two rows as large as it is, either way.

    If two rows are equally good, the difference in a photograph is as likely to be of the other sign. Returns: p in
    (0, 1], at the least 1 / (draws + 1); None of less than two photographs.
    """
    sums, _ = by_photograph(difference, photograph)
    if len(sums) < 2:
        return None
    rng, found = np.random.default_rng(seed), abs(sums.sum())
    # Sums of the same numbers in another order differ in their last bits.
    as_large = sum(
        int((np.abs(rng.choice((-1.0, 1.0), (chunk, len(sums))) @ sums) >= found * (1 - 1e-9) - 1e-12).sum())
        for chunk in _chunks(draws, len(sums))
    )
    return (1 + as_large) / (1 + draws)


def _chunks(draws: int, photographs: int) -> list[int]:
    """How many draws at a time, so that memory stays flat."""
    most = max(1, _AT_ONCE // photographs)
    return [min(most, draws - done) for done in range(0, draws, most)]
