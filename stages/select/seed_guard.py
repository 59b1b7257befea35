"""Detects a training that learns nothing: some seeds leave the bags at chance, with a loss that looks flat and calm."""

from dataclasses import dataclass

from stages.select.class_accuracy import ClassAccuracy
from stages.select.config import GuardConfig

EARLIEST = 100


class AtChanceError(Exception):
    """The bags are classified no better than by chance after `iteration` steps."""

    def __init__(self, iteration: int, accuracy: float) -> None:
        super().__init__(f"bag accuracy {accuracy:.3f} after {iteration} steps")
        self.iteration, self.accuracy = iteration, accuracy


def chance_level(num_classes: int) -> float:
    """Balanced accuracy of a constant answer over the classes that the bags have; 1 for a single class."""
    return 1 / max(1, num_classes)


def accuracy_wanted(num_classes: int, factor: float) -> float:
    """The balanced accuracy that shows learning.

    A multiple of chance, at most half-way from chance to 1. With a single class a constant answer is right, and only
    a selector that calls most bags background has failed: half will do.
    """
    if num_classes <= 1:
        return 0.5
    chance = chance_level(num_classes)
    return min(factor * chance, (1 + chance) / 2)


@dataclass(frozen=True)
class SeedGuard:
    """Judges a training once; ``on_step`` for `stages.training.train`.

    Attributes:
        accuracy: The model's running accuracy.
        num_classes: Classes that the bags really have.
        iteration: When to judge.
        restarts_left: With none left the training goes on to its end whatever it shows.
    """

    config: GuardConfig
    accuracy: ClassAccuracy
    num_classes: int
    iteration: int
    restarts_left: int

    def __call__(self, iteration: int, values: dict[str, float]) -> None:
        """Raises: AtChanceError if this is the moment to judge, and the training is to be started anew."""
        if self.config.enabled and iteration == self.iteration and self.restarts_left > 0 and self.at_chance():
            raise AtChanceError(iteration, self.accuracy.balanced())

    def at_chance(self) -> bool:
        """Whether the running accuracy shows no learning."""
        return self.accuracy.balanced() < accuracy_wanted(self.num_classes, self.config.factor)


def judged_at(after: float, max_iterations: int) -> int:
    """The iteration at which the guard judges: a share of the length but not before step 100, or `after` itself.

    A trial of a few steps is shorter than that and is never judged.
    """
    return max(EARLIEST, round(after * max_iterations)) if after < 1 else int(after)


def seed_of_attempt(seed: int, attempt: int) -> int:
    """The seed of a restart; attempt 0 has the run's own."""
    return seed + 7_919 * attempt
