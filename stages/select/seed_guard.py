"""Detects a training that learns nothing: some seeds leave the bags at chance, with a loss that looks flat and calm."""

from collections.abc import Callable
from dataclasses import dataclass

from sapnet_pipe.stages.select.config import GuardConfig
from sapnet_pipe.stages.select.network.model import Selector

EARLIEST = 100
OBJECT_CHANCE, OBJECT_WANTED = 0.5, 0.75


@dataclass(frozen=True)
class LearningSign:
    """The figure that shows whether a training learns.

    Attributes:
        name: ``bag accuracy`` where the bags have several classes; ``object accuracy`` where they have one.
        value: Reads it off the model.
        chance: What nothing learnt gives. wanted: What shows learning.
    """

    name: str
    value: Callable[[], float]
    chance: float
    wanted: float

    def is_chance(self) -> bool:
        """Whether the figure shows no learning now."""
        return self.value() < self.wanted

    def __str__(self) -> str:
        return f"{self.name} {self.value():.3f}, chance is {self.chance:.3f}, {self.wanted:.3f} would show learning"


class AtChanceError(Exception):
    """A training that has learnt nothing after `iteration` steps."""

    def __init__(self, iteration: int, sign: LearningSign) -> None:
        super().__init__(f"after {iteration} steps {sign}")
        self.iteration, self.value, self.chance = iteration, sign.value(), sign.chance


def learning_sign(model: Selector, num_classes: int, factor: float) -> LearningSign:
    """The sign for a model whose bags have `num_classes` different classes (which is what counts, not the store's).

    With a single class a constant answer classifies every bag; there objects must stand out against the negatives.

    Raises: ValueError if there is neither a second class nor a negative, see `can_learn`.
    """
    if num_classes > 1:
        wanted = accuracy_wanted(num_classes, factor)
        return LearningSign("bag accuracy", model.accuracy.balanced, chance_level(num_classes), wanted)
    if model.object_accuracy is None:
        raise ValueError("one class and no negatives: there is nothing to learn")
    return LearningSign("object accuracy", model.object_accuracy.value, OBJECT_CHANCE, OBJECT_WANTED)


def chance_level(num_classes: int) -> float:
    """Balanced accuracy of a constant answer over the classes that the bags have; 1 for a single class."""
    return 1 / max(1, num_classes)


def accuracy_wanted(num_classes: int, factor: float) -> float:
    """The balanced accuracy that shows learning: a multiple of chance, at most half-way from chance to 1."""
    chance = chance_level(num_classes)
    return min(factor * chance, (1 + chance) / 2)


@dataclass(frozen=True)
class SeedGuard:
    """Judges a training once; ``on_step`` for `stages.training.loop.train`.

    Attributes:
        iteration: When to judge.
        restarts_left: With none left the training goes on to its end whatever it shows.
    """

    config: GuardConfig
    sign: LearningSign
    iteration: int
    restarts_left: int

    def __call__(self, iteration: int, values: dict[str, float]) -> None:
        """Raises: AtChanceError if this is the moment to judge, and the training is to be started anew."""
        due = self.config.enabled and iteration == self.iteration and self.restarts_left > 0
        if due and self.sign.is_chance():
            raise AtChanceError(iteration, self.sign)


def judged_at(after: float, max_iterations: int) -> int:
    """The iteration at which the guard judges: a share of the length but not before step 100, or `after` itself.

    A trial of a few steps is shorter than that and is never judged.
    """
    return max(EARLIEST, round(after * max_iterations)) if after < 1 else int(after)


def seed_of_attempt(seed: int, attempt: int) -> int:
    """The seed of a restart; attempt 0 has the run's own."""
    return seed + 7_919 * attempt
