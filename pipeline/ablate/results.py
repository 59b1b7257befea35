"""What the runs of an ablation found, by variant: means, their spread over the seeds, and their evidence."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean, stdev
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationError, model_validator

from sapnet_pipe.data.errors import UserError
from sapnet_pipe.data.evaluation.object_table import ObjectTable, read_object_table
from sapnet_pipe.data.files import read_json, write_json
from sapnet_pipe.pipeline.ablate.evidence import Covered, covered_by, row_evidence, step_evidence
from sapnet_pipe.pipeline.ablate.plan import Plan
from sapnet_pipe.pipeline.ablate.tasks import RunFolders, result_of
from sapnet_pipe.stages.training.run_files import MANIFEST, OBJECTS

_FileName = Annotated[str, Field(pattern=r"^[^/\\\x00]+$", min_length=1)]


class PlannedFolders(BaseModel):
    """One run of a plan, and the folders of its trainings below ``runs``."""

    variant: str
    seed: int
    set: str = ""
    select: _FileName
    segment: _FileName | None


class PlanFile(BaseModel):
    """What `write_plan` writes."""

    ablation: str
    title: str
    compare: Literal["first", "previous"]
    bags: str | dict[str, str]
    variants: list[str]
    runs: list[PlannedFolders]

    @model_validator(mode="after")
    def _variants_are_listed(self) -> "PlanFile":
        unknown = [run.variant for run in self.runs if run.variant not in self.variants]
        if unknown:
            raise ValueError(f"{unknown[0]} is none of the variants")
        return self


PLAN_SUFFIX = ".plan.json"
_FIXED = ("sam_top1", "largest", "token_1", "token_2", "token_3", "oracle")


def plan_file(out: Path, name: str) -> Path:
    """Where an ablation's rows and run folders are written down."""
    return out / f"{name}{PLAN_SUFFIX}"


def write_plan(out: Path, plan: Plan, folders: Sequence[RunFolders], stores: Mapping[str, str]) -> None:
    """Write down what belongs to the table, so that it can be made again without the plan.

    Args:
        stores: Fingerprint of the store of every set.
    """
    rows = [asdict(run) for run in folders]
    settings = plan.settings
    content = {
        "ablation": plan.name,
        "title": settings.title or plan.name,
        "compare": settings.compare,
        "bags": stores.get("", dict(stores)),
        "variants": [variant.name for variant in settings.variants],
        "runs": rows,
    }
    write_json(plan_file(out, plan.name), content, indent=2)


def gather(out: Path, name: str) -> dict[str, Any]:
    """The figures of the ablation `name` in the folder `out`, from the manifests of its finished runs.

    Returns: as table.json has it: ``variants`` by name, in their order, each with ``seeds``, every seed's figure and
        ``..._mean``, ``..._sd`` (of the sample) and ``..._sem`` of each, and with ``evidence`` and ``step_evidence`` of
        `pipeline.ablate.evidence` where the runs have their objects; of several sets a seed's figure is the mean over
        them. ``baselines``, the choices without training; ``sets``, their names; ``finished`` and ``runs``, counts.
        Figures of unfinished runs are missing.
    Raises: UserError if the plan or a run cannot be read.
    """
    plan = read_plan(plan_file(out, name))
    found: dict[str, dict[int, dict[str, dict[str, Any]]]] = {variant: {} for variant in plan.variants}
    tables: dict[str, dict[str, list[ObjectTable]]] = {variant: {} for variant in plan.variants}
    baselines: dict[str, dict[str, float]] = {}
    for run in plan.runs:
        folder = out / "runs" / run.select
        selected = result_of(folder)
        segmented = None if run.segment is None else result_of(out / "runs" / run.segment)
        if selected is None or (run.segment is not None and segmented is None):
            continue
        try:
            figures = {**run.model_dump(), **_figures(selected, segmented)}
            fixed = {rule: float(selected["quality"][rule]["miou"]) for rule in _FIXED} if selected["quality"] else {}
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            file, problem = folder / MANIFEST, f"not the result of a run ({error!r})"
            raise UserError(file, "result", run.variant, problem, "Move that run away, and run ablate again") from error
        found[run.variant].setdefault(run.seed, {})[run.set] = figures
        if (folder / OBJECTS).is_file():
            tables[run.variant].setdefault(run.set, []).append(read_object_table(folder / OBJECTS))
        # Of several stores the fullest bags.
        if fixed and fixed["oracle"] >= baselines.get(run.set, {}).get("oracle", 0.0):
            baselines[run.set] = fixed
    sets = list(dict.fromkeys(run.set for run in plan.runs))
    pooled = {
        variant: {seed: _over_sets(of, sets) for seed, of in by_seed.items() if len(of) == len(sets)}
        for variant, by_seed in found.items()
    }
    rows = _rows(pooled, plan.compare)
    _add_evidence(rows, tables, sets)
    return {
        "ablation": plan.ablation,
        "title": plan.title,
        "bags": plan.bags,
        "compare": plan.compare,
        "sets": [name for name in sets if name],
        "runs": len(plan.runs),
        "finished": sum(len(of) for by_seed in found.values() for of in by_seed.values()),
        "variants": rows,
        "baselines": {rule: round(fmean(of[rule] for of in baselines.values()), 6) for rule in _FIXED if baselines},
    }


def _over_sets(figures: Mapping[str, Mapping[str, Any]], sets: Sequence[str]) -> dict[str, Any]:
    """One seed's figures: the mean over the sets, of counts the sum; of one set its own."""
    every = [figures[name] for name in sets]
    merged = dict(every[0])
    for name, value in every[0].items():
        if isinstance(value, float):
            known = [of[name] for of in every if of.get(name) is not None]
            merged[name] = fmean(known)
    merged["at_chance"] = sum(of["at_chance"] for of in every)
    merged["restarts"] = sum(of["restarts"] for of in every)
    merged["selects"] = [of["select"] for of in every]
    return merged


def _add_evidence(
    rows: Mapping[str, dict[str, Any]], tables: Mapping[str, Mapping[str, Sequence[ObjectTable]]], sets: Sequence[str]
) -> None:
    """Errors over photographs and sets, for the rows whose runs have their objects on every set."""
    covered: dict[str, dict[str, Covered]] = {}
    for variant, row in rows.items():
        made = {name: of for name in sets if (of := covered_by(tables[variant].get(name, ()))) is not None}
        if not made or len(made) < len(sets):
            continue
        covered[variant] = made
        row["evidence"] = row_evidence(made)
        other = row.get("compared_with")
        if other in covered:
            row["step_evidence"] = step_evidence(made, covered[other])


def read_plan(file: Path) -> PlanFile:
    """Read what `write_plan` wrote. Raises: UserError if it cannot be read."""
    try:
        return PlanFile.model_validate(read_json(file))
    except ValidationError as error:
        fault = error.errors()[0]
        field = ".".join(map(str, fault["loc"])) or "content"
        raise UserError(file, field, fault["input"], fault["msg"], "Run ablate again, which writes it anew") from error


def _figures(selected: Mapping[str, Any], segmented: Mapping[str, Any] | None) -> dict[str, Any]:
    """The figures of one run; those it lacks are left out."""
    training = selected["training"] or {}
    figures: dict[str, Any] = {
        "at_chance": int(bool(training.get("at_chance") or selected["fallback"])),
        "restarts": len(training.get("restarts", ())),
    }
    if selected["quality"]:
        chosen = selected["quality"]["chosen"]
        figures |= {name: float(chosen[name]) for name in ("miou", "share_50", "share_75")}
        figures |= {f"miou_{kind}": found["miou"] for kind, found in chosen["by_group"].items() if found["count"]}
        figures["oracle"] = float(selected["quality"]["oracle"]["miou"])
    if training.get("bag_accuracy") is not None:
        figures["bag_accuracy"] = training["bag_accuracy"]
    if segmented is not None and segmented.get("ap"):
        figures |= {"ap": segmented["ap"]["segm"]["AP"], "ap_50": segmented["ap"]["segm"]["AP50"]}
        figures["box_ap"] = segmented["ap"]["bbox"]["AP"]
    return figures


def _rows(found: Mapping[str, Mapping[int, Mapping[str, Any]]], compare: str) -> dict[str, dict[str, Any]]:
    rows: dict[str, dict[str, Any]] = {}
    first: str | None = None
    previous: str | None = None
    for variant, by_seed in found.items():
        runs = list(by_seed.values())
        row: dict[str, Any] = {"seeds": list(by_seed)}
        names = [name for name in (runs[0] if runs else {}) if isinstance(runs[0][name], float)]
        for name in names:
            values = [run[name] for run in runs if run.get(name) is not None]
            row |= {name: [round(value, 6) for value in values], **_statistics(name, values)}
        row["at_chance"] = sum(run["at_chance"] for run in runs)
        row["restarts"] = sum(run["restarts"] for run in runs)
        row["select_runs"] = [name for run in runs for name in run["selects"]]
        other = first if compare == "first" else previous
        if other is not None:
            row |= _step(by_seed, found[other], "ap" if names and "ap" in names else "miou") | {"compared_with": other}
        rows[variant] = row
        first, previous = first or variant, variant
    return rows


def _step(
    by_seed: Mapping[int, Mapping[str, Any]], others: Mapping[int, Mapping[str, Any]], name: str
) -> dict[str, float | None]:
    """The mean difference to another row over the seeds of both: seeds share their luck, so pairs tell more."""
    pairs = [(by_seed[seed], others[seed]) for seed in by_seed if seed in others]
    differences = [a[name] - b[name] for a, b in pairs if a.get(name) is not None and b.get(name) is not None]
    return _statistics("step", differences) if differences else {}


def _statistics(name: str, values: Sequence[float]) -> dict[str, float | None]:
    """Mean, standard deviation of the sample and standard error; of one value neither of the latter is known."""
    spread = stdev(values) if len(values) > 1 else None
    return {
        f"{name}_mean": round(fmean(values), 6),
        f"{name}_sd": None if spread is None else round(spread, 6),
        f"{name}_sem": None if spread is None else round(spread / math.sqrt(len(values)), 6),
    }
