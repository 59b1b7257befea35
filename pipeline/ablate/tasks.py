"""The trainings behind the runs of a plan: each once, in a folder of its own that is named by what decides it."""

import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

from sapnet_pipe.data.bag_store.filesystem import Location
from sapnet_pipe.data.errors import UserError
from sapnet_pipe.data.files import disk_errors, read_json
from sapnet_pipe.pipeline.ablate.inputs import Inputs
from sapnet_pipe.pipeline.ablate.keys import key_of, select_key
from sapnet_pipe.pipeline.ablate.plan import Plan, PlannedRun
from sapnet_pipe.pipeline.commands.select import SelectInputs, select
from sapnet_pipe.pipeline.commands.train_seg import TrainSegInputs, train_seg
from sapnet_pipe.pipeline.settings import resolve_settings
from sapnet_pipe.stages.segment.config import SegmentConfig
from sapnet_pipe.stages.segment.presets import PRESETS as SEGMENT_PRESETS
from sapnet_pipe.stages.select.config import SelectConfig
from sapnet_pipe.stages.select.presets import PRESETS as SELECT_PRESETS
from sapnet_pipe.stages.training.run_files import MANIFEST, PSEUDO_LABELS


@dataclass(frozen=True)
class Task:
    """One training, of a selector or of the segmenter on its labels; picklable.

    Attributes:
        title: For the line that tells of it.
        settings: Nested, over the preset.
        source: Bag store or file of labels.
        truth: For a selector the true masks, for a segmenter the validation labels.
        truth_images: A segmenter's validation photographs.
    """

    command: str
    title: str
    folder: Path
    preset: str
    settings: Mapping[str, Any]
    source: Location
    images: Path
    truth: Path | None
    truth_images: Path | None = None

    def on(self, device: str) -> "Task":
        """The same on a device, which decides nothing of the result's name."""
        return replace(self, settings={**self.settings, "device": device})


@dataclass(frozen=True)
class RunFolders:
    """Where the selector of a run lies, and its segmenter if one follows; names below ``out/runs``.

    Attributes:
        set: Name of the set of scenes, empty where there is one alone.
    """

    variant: str
    seed: int
    set: str
    select: str
    segment: str | None


def make_tasks(plan: Plan, sets: Mapping[str, Inputs], out: Path) -> tuple[list[Task], list[RunFolders]]:
    """The distinct trainings on every set of inputs, selectors first, and the folders of every run.

    Runs that agree in the store and all resolved settings share a training, also one of another ablation in `out`.
    """
    tasks: dict[str, Task] = {}
    following: dict[str, Task] = {}
    folders = []
    for run, (name, inputs) in product(plan.runs, sets.items()):
        key, task = _select_task(plan, run, inputs, out / "runs")
        task = tasks.setdefault(key, _on_set(task, name))
        segment = None
        if run.segment_config is not None and run.segment is not None:
            labels_key, segmenter = _segment_task(plan, run, task, key, inputs, out / "runs")
            segment = following.setdefault(labels_key, _on_set(segmenter, name)).folder.name
        folders.append(RunFolders(run.variant, run.seed, name, task.folder.name, segment))
    return [*tasks.values(), *following.values()], folders


def _on_set(task: Task, name: str) -> Task:
    return replace(task, title=f"{name}, {task.title}") if name else task


def result_of(folder: Path) -> dict[str, Any] | None:
    """What a finished run says of itself; None if it is not finished."""
    file = folder / MANIFEST
    with disk_errors(file):
        if not file.is_file():
            return None
    manifest = read_json(file)
    if not isinstance(manifest, dict) or manifest.get("status") != "complete":
        return None
    result = manifest.get("result")
    if not isinstance(result, dict):
        raise UserError(
            file, "result", result, "not what a finished run writes", "Move that run away, and run it again"
        )
    return result


def do_task(task: Task) -> dict[str, Any]:
    """Train, going on where an interrupted run stood; the run's result.

    Raises: UserError as the command of that name.
    """
    if task.folder.is_dir() and not (task.folder / MANIFEST).is_file():
        shutil.rmtree(task.folder)  # killed before it was a run
    images, out, resume = task.images, task.folder, task.folder.is_dir()
    if task.command == "select":
        bags = str(task.source)
        selector = SelectInputs(bags=bags, images=images, out=out, truth=task.truth, resume=resume, quiet=True)
        preset = SELECT_PRESETS[task.preset]
        report = select(selector, resolve_settings(SelectConfig, preset=preset, flags=task.settings))
    else:
        segmenter = TrainSegInputs(
            labels=Path(str(task.source)), images=images, out=out, val_labels=task.truth, val_images=task.truth_images,
            resume=resume, quiet=True,
        )  # fmt: skip
        preset = SEGMENT_PRESETS[task.preset]
        report = train_seg(segmenter, resolve_settings(SegmentConfig, preset=preset, flags=task.settings))
    return dict(report.result)


def _select_task(plan: Plan, run: PlannedRun, inputs: Inputs, folder: Path) -> tuple[str, Task]:
    key = select_key(run.select_config, {"bags": inputs.fingerprints[run.masks], "truth": inputs.truth_sha256})
    return key, Task(
        command="select",
        title=f"{run.variant}, seed {run.seed}",
        folder=_named(folder, "select", run, key),
        preset=plan.settings.select_preset,
        settings=run.select,
        source=inputs.bags[run.masks],
        images=inputs.images,
        truth=inputs.truth,
    )


def _segment_task(
    plan: Plan, run: PlannedRun, select: Task, select_key: str, inputs: Inputs, folder: Path
) -> tuple[str, Task]:
    config, settings = run.segment_config, run.segment
    if config is None or settings is None:
        raise ValueError("this run has no segmenter")
    key = key_of(config, {"labels": select_key, "val_labels": inputs.val_sha256})
    return key, Task(
        command="train-seg",
        title=f"{run.variant}, seed {run.seed}: SOLOv2",
        folder=_named(folder, "segment", run, key),
        preset=plan.settings.segment_preset,
        settings=settings,
        source=select.folder / PSEUDO_LABELS,
        images=inputs.images,
        truth=inputs.val_labels,
        truth_images=inputs.val_images,
    )


def _named(folder: Path, kind: str, run: PlannedRun, key: str) -> Path:
    """The folder that has the key, whatever variant it was made for; else one named after this variant."""
    found: Sequence[Path] = sorted(folder.glob(f"{kind}-*-{key}"))
    slug = re.sub(r"[^a-z0-9.]+", "-", run.variant.lower()).strip("-") or "variant"
    return found[0] if found else folder / f"{kind}-{slug}-seed{run.seed}-{key}"
