"""How far an ablation is and what is left: a line for every training that ends."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import typer

from sapnet_pipe.data.errors import UserError
from sapnet_pipe.pipeline.ablate.plan import Plan
from sapnet_pipe.pipeline.ablate.tasks import Task


@dataclass(frozen=True)
class Timed:
    """The result of a training and the seconds that it took."""

    result: dict[str, Any]
    seconds: float


@dataclass
class Progress:
    """One line per training: which, what it found, how many are left and for about how long.

    Attributes:
        total: Distinct trainings of the plan. missing: Those that are not finished yet. lanes: At once.
        seconds: Of every training that ended, by the name of its folder.
    """

    plan: Plan
    total: int
    missing: int
    lanes: int
    quiet: bool
    done: int = 0
    began: float = field(default_factory=time.monotonic)
    seconds: dict[str, Any] = field(default_factory=dict)

    def begin(self, runs: int) -> None:
        """Say what there is to do."""
        variants, before = len(self.plan.settings.variants), self.total - self.missing
        shared = f", {self.total} trainings" if self.total != runs else ""
        kept = f", {before} finished before" if before else ""
        self.say(f"{self.plan.name}: {variants} variants, {runs} runs{shared}{kept}; {self.lanes} at once")

    def ended(self, task: Task, ended: Timed | UserError) -> None:
        """Tell of a training that ended."""
        self.done += 1
        if isinstance(ended, UserError):
            what = f"failed: {ended}"
        else:
            self.seconds[task.folder.name] = round(ended.seconds, 1)
            what = f"{_headline(task, ended.result)}, {ended.seconds:.0f} s"
        left = self.missing - self.done
        each = (time.monotonic() - self.began) / self.done
        rest = f"; {left} left, about {_duration(left * each)}" if left else ""
        self.say(f"[{self.total - left}/{self.total}] {task.title}: {what}{rest}")

    def say(self, text: str) -> None:
        """A line for people."""
        if not self.quiet:
            typer.echo(text)


def _headline(task: Task, result: Mapping[str, Any]) -> str:
    if task.command == "train-seg":
        return f"mask AP {result['ap']['segm']['AP']:.4f}"
    chance = " (at chance)" if (result["training"] or {}).get("at_chance") else ""
    if result["quality"]:
        return f"mIoU {result['quality']['chosen']['miou']:.4f}{chance}"
    return f"bag accuracy {result['training']['bag_accuracy']:.3f}{chance}" if result["training"] else "done"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
