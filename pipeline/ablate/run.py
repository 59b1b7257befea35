"""`sapnet-pipe ablate`: every training of a plan that is not there yet, then the tables; and `report`, these alone."""

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from sapnet_pipe.data.errors import UserError
from sapnet_pipe.data.files import disk_errors
from sapnet_pipe.data.folder_lock import contents, held_folder
from sapnet_pipe.pipeline.ablate.inputs import Inputs, make_demo, open_inputs
from sapnet_pipe.pipeline.ablate.lanes import lanes_for, run_in_lanes
from sapnet_pipe.pipeline.ablate.pictures import draw_rows
from sapnet_pipe.pipeline.ablate.plan import FROZEN, Plan
from sapnet_pipe.pipeline.ablate.progress import Progress, Timed
from sapnet_pipe.pipeline.ablate.results import PLAN_SUFFIX, gather, plan_file, write_plan
from sapnet_pipe.pipeline.ablate.screening import agreement, agreement_line, with_features
from sapnet_pipe.pipeline.ablate.table import markdown, write_tables
from sapnet_pipe.pipeline.ablate.tasks import Task, do_task, make_tasks, result_of
from sapnet_pipe.pipeline.demo.scenes import DemoData
from sapnet_pipe.pipeline.report import Report

_BEGUN = {"demo", "sets", "runs", "stores", "features"}  # what may be there before a plan is


def run_ablation(
    plan: Plan,
    out: Path,
    *,
    bags: str | None = None,
    images: Path | None = None,
    truth: Path | None = None,
    val_labels: Path | None = None,
    val_images: Path | None = None,
    demo: bool = False,
    draw: Path | None = None,
    quiet: bool = False,
) -> Report:
    """Train what is missing in `out` and write the tables; with `draw`, a new folder, also pictures of the rows.

    A run that cannot be done does not stop the others; it is missing in the table, and ends the command as an error.

    Raises: UserError for inputs at fault, for a folder of something else or where another ablation is at work, or after
        the tables are written for a run at fault.
    """
    began = time.monotonic()
    _check_folder(out)
    _check_alone()
    _check_sets(plan, demo=demo)

    def validation(made: DemoData) -> tuple[Path | None, Path | None]:
        if val_labels is not None or not plan.settings.segment_preset:
            return val_labels, val_images
        return made.test_truth, made.test_images

    with held_folder(out):
        if demo:
            if bags is not None or images is not None or truth is not None:
                hint = "Leave out --bags, --images and --truth, or leave out --demo"
                raise UserError("ablate", "--demo", "given", "which makes its own bags, photographs and truth", hint)
            sets = {
                name: _open(plan, out, str(made.bags), made.train_images, made.train_truth, *validation(made))
                for name, made in make_demo(out, plan.settings, quiet=quiet).items()
            }
        else:
            _check_segments(plan, val_labels)
            sets = {"": _open(plan, out, bags, images, truth, val_labels, val_images)}
        if plan.frozen:
            plan = with_features(plan, sets[""], out, partial(_train_backbone, plan, quiet=quiet))
        seconds, faults = _train(plan, sets, out, quiet=quiet)
        figures, files = write_tables(out, plan.name)
        if faults:
            _refuse(faults, figures)
        result = {**figures, "seconds": seconds | {"total": round(time.monotonic() - began, 1)}}
        compared = _compared(out, plan.name, {plan.name: figures})
        if compared is not None:
            result["agreement"] = compared
        notes = [] if compared is None else [agreement_line(plan.name.removesuffix(FROZEN), compared)]
        if draw is not None:
            notes += draw_rows(out, plan.name, sets, draw, quiet=quiet)
        return _report(figures, files, result, [*_notes(plan, figures), *notes])


def report_ablations(out: Path) -> Report:
    """Make the tables in `out` again from its finished runs; nothing is trained.

    Raises: UserError if the folder has no ablation.
    """
    with disk_errors(out):
        names = sorted(file.name.removesuffix(PLAN_SUFFIX) for file in out.glob(f"*{PLAN_SUFFIX}"))
    if not names:
        raise UserError("--run", "path", str(out), "in which there is no ablation", "Give the --out of an ablate")
    made = {name: write_tables(out, name) for name in names}
    tables = {name: figures for name, (figures, _) in made.items()}
    files = [str(file) for _, written in made.values() for file in written]
    found = {name: _compared(out, name, tables) for name in tables if name.endswith(FROZEN)}
    compared = {name.removesuffix(FROZEN): value for name, value in found.items() if value is not None}
    notes = [agreement_line(name, value) for name, value in compared.items()]
    result = {"ablations": tables, "agreement": compared, "written": files}
    text = "\n".join(map(markdown, tables.values())).rstrip()
    return Report(text, result, notes=notes, shown={"written": files})


def _compared(out: Path, name: str, tables: Mapping[str, Mapping[str, Any]]) -> dict[str, Any] | None:
    """The agreement of a screening with the full ablation of the same name, where both are there."""
    whole = name.removesuffix(FROZEN)
    if whole == name or not plan_file(out, whole).is_file():
        return None
    return agreement(tables[whole] if whole in tables else gather(out, whole), tables[name])


def _open(
    plan: Plan,
    out: Path,
    bags: str | None,
    images: Path | None,
    truth: Path | None,
    val_labels: Path | None,
    val_images: Path | None,
) -> Inputs:
    masks = {run.masks for run in plan.runs}
    return open_inputs(bags, images, truth=truth, val_labels=val_labels, val_images=val_images, masks=masks, out=out)


def _train(
    plan: Plan, sets: Mapping[str, Inputs], out: Path, *, quiet: bool
) -> tuple[dict[str, Any], list[tuple[str, UserError]]]:
    """Run what is not finished: seconds of every training of this call, and what could not be done."""
    tasks, folders = make_tasks(plan, sets, out)
    write_plan(out, plan, folders, {name: inputs.fingerprints["all"] for name, inputs in sets.items()})
    missing = [task for task in tasks if result_of(task.folder) is None]
    lanes = lanes_for(plan.settings.device, plan.settings.parallel)
    progress = Progress(plan, len(tasks), len(missing), min(len(lanes), max(1, len(missing))), quiet)
    progress.begin(len(folders))
    faults: list[tuple[str, UserError]] = []
    for command in ("select", "train-seg"):  # a segmenter needs the labels of its selector
        own = [task for task in missing if task.command == command and _has_source(task)]
        jobs: list[Callable[[str], Timed]] = [partial(_timed, task) for task in own]
        for place, ended in run_in_lanes(jobs, lanes):
            if isinstance(ended, UserError):
                faults.append((own[place].title, ended))
            progress.ended(own[place], ended)
            write_tables(out, plan.name)
    return progress.seconds, faults


def _train_backbone(plan: Plan, task: Task, *, quiet: bool) -> None:
    """The one full training of a screening, for its features."""
    progress = Progress(plan, 1, 1, 1, quiet)
    progress.say("the backbone starts from random weights: one selector is trained in full for the features")
    lane = lanes_for(plan.settings.device, 1)[0]
    progress.ended(task, _timed(task, lane.device))


def _timed(task: Task, device: str) -> Timed:
    began = time.monotonic()
    return Timed(do_task(task.on(device)), time.monotonic() - began)


def _has_source(task: Task) -> bool:
    return task.command == "select" or Path(str(task.source)).is_file()


def _check_folder(out: Path) -> None:
    """Raises: UserError unless the folder is new, empty, or one of ablations."""
    with disk_errors(out):
        if out.exists() and not out.is_dir():
            raise UserError("--out", "path", str(out), "a file, not a folder", "Choose another path")
    names = {entry.name for entry in contents(out)}
    if names - _BEGUN and not any(name.endswith(PLAN_SUFFIX) for name in names):
        raise UserError("--out", "path", str(out), "holds files of something else", "Choose a new folder")


def _check_alone() -> None:
    from sapnet_pipe.stages.training.distributed import world_size

    count = world_size()
    if count > 1:
        hint = "Start it once without torchrun: it takes every GPU, a training each"
        raise UserError("ablate", "processes", count, "but it runs in one", hint)


def _check_sets(plan: Plan, *, demo: bool) -> None:
    count = plan.settings.sets
    if count and not demo:
        raise UserError(
            "ablate", "sets", count, "but sets are rendered by --demo alone", "Add --demo, or give --sets 0"
        )
    if count and plan.frozen:
        hint = "Leave out --frozen, or --sets"
        raise UserError("ablate", "--frozen", "given", "which screens on one set", hint)


def _check_segments(plan: Plan, val_labels: Path | None) -> None:
    if plan.settings.segment_preset and val_labels is None:
        hint = "Give --val-labels and --val-images, which the segmenters' AP is measured on"
        raise UserError("ablate", "--val-labels", "nothing", "but segmenters are to follow", hint)


def _refuse(faults: Sequence[tuple[str, UserError]], figures: Mapping[str, Any]) -> None:
    title, fault = faults[0]
    if figures["finished"] == 0:
        raise fault
    counted = f"{len(faults)} runs failed, the first ({title})" if len(faults) > 1 else f"run {title} failed"
    hint = f"{fault.hint}, then run the same command again: what is finished is kept"
    raise UserError(fault.file, fault.field, fault.value, f"{fault.problem}; {counted}", hint)


def _notes(plan: Plan, figures: Mapping[str, Any]) -> list[str]:
    notes = []
    chance = [name for name, row in figures["variants"].items() if row["at_chance"]]
    if chance:
        notes.append(
            f"runs that learnt nothing, and so took SAM's top-1 or guessed, are among those of: {', '.join(chance)}."
        )
    shared: dict[tuple[str, ...], list[str]] = {}
    for name, row in figures["variants"].items():
        shared.setdefault(tuple(row["select_runs"]), []).append(name)
    for names in shared.values():
        if len(names) > 1 and not plan.settings.segment_preset:
            notes.append(f"{' and '.join(names)} have the same selector; --segment-preset shows where they differ.")
    return notes


def _report(figures: Mapping[str, Any], files: Sequence[Path], result: dict[str, Any], notes: Sequence[str]) -> Report:
    written = [str(file) for file in files]
    return Report(markdown(figures).rstrip(), result | {"written": written}, notes=notes, shown={"written": written})
