"""Detects a training that learns nothing: some seeds leave the bags at chance, with a loss that looks flat and calm.

Two running figures show whether a selector learns: the accuracy of the bags' classes, and that of objects against
background. They are part of the model's state, so that the guard of a resumed run decides as that of an undisturbed
one, and count the bags of all processes, so that all of them decide alike. They forget at 2 % a step.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sapnet_pipe.stages.select.config import GuardConfig
from sapnet_pipe.stages.training.distributed import all_reduce_sum

DECAY = 0.98
EARLIEST = 100
OBJECT_CHANCE, OBJECT_WANTED = 0.5, 0.75


class ClassAccuracy(nn.Module):
    """How well the bags are classified, per class."""

    correct: Tensor
    seen: Tensor

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.register_buffer("correct", torch.zeros(num_classes))
        self.register_buffer("seen", torch.zeros(num_classes))

    def update(self, predicted: Tensor, class_index: Tensor) -> None:
        """Count the bags of one step: predicted (N,) in 0..C (C the background), class_index (N,) in 0..C-1."""
        hits = (predicted == class_index).to(self.seen.dtype)
        counts = self.seen.new_zeros(2, len(self.seen))
        counts = all_reduce_sum(counts.index_add(1, class_index, torch.stack([hits, torch.ones_like(hits)])))
        self.correct.mul_(DECAY).add_(counts[0])
        self.seen.mul_(DECAY).add_(counts[1])

    def balanced(self) -> float:
        """Mean over the classes seen lately of their accuracy; 0 if none was. A constant answer gives 1 / classes."""
        lately = self.seen > 0.1
        if not bool(lately.any()):
            return 0.0
        return float((self.correct[lately] / self.seen[lately]).mean())


class ObjectAccuracy(nn.Module):
    """How often a bag scores above a negative of its image: 0.5 by chance, 1 where objects stand out.

    Where all bags are of one class their classification shows nothing: a constant answer is right.
    """

    won: Tensor
    pairs: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("won", torch.zeros(()))
        self.register_buffer("pairs", torch.zeros(()))

    def update(
        self, scores: Tensor, class_index: Tensor, image_index: Tensor, negatives: Tensor, negative_image: Tensor
    ) -> None:
        """Compare the bags of one step with the negatives of their images; equal scores count half.

        Args:
            scores, class_index, image_index: (N,), of the bags. negatives: (R, C) scores of the negatives, of images
                negative_image (R,).
        """
        rivals = negatives[:, class_index].T  # (N, R)
        here = image_index[:, None] == negative_image
        better = (scores[:, None] > rivals).float() + 0.5 * (scores[:, None] == rivals)
        counts = all_reduce_sum(torch.stack([(better * here).sum(), here.sum().float()]))
        self.won.mul_(DECAY).add_(counts[0])
        self.pairs.mul_(DECAY).add_(counts[1])

    def value(self) -> float:
        """The share of comparisons won lately; 0.5 if there were none."""
        return float(self.won / self.pairs) if bool(self.pairs > 0) else 0.5


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


def learning_sign(
    classes: ClassAccuracy, objects: ObjectAccuracy | None, num_classes: int, factor: float
) -> LearningSign:
    """The sign for a training whose bags have `num_classes` different classes (which is what counts, not the store's).

    With a single class a constant answer classifies every bag; there objects must stand out against the negatives.

    Raises: ValueError if there is neither a second class nor a negative, see `stages.select.learn.cannot_learn`.
    """
    if num_classes > 1:
        wanted = accuracy_wanted(num_classes, factor)
        return LearningSign("bag accuracy", classes.balanced, chance_level(num_classes), wanted)
    if objects is None:
        raise ValueError("one class and no negatives: there is nothing to learn")
    return LearningSign("object accuracy", objects.value, OBJECT_CHANCE, OBJECT_WANTED)


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
