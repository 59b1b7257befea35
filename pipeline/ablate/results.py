"""What the runs of an ablation found, by variant: mean, spread and standard error over the seeds."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationError, model_validator

from sapnet_pipe.data.errors import UserError
from sapnet_pipe.data.files import read_json, write_json
from sapnet_pipe.pipeline.ablate.plan import Plan
from sapnet_pipe.pipeline.ablate.tasks import RunFolders, result_of
from sapnet_pipe.stages.training.run_files import MANIFEST

_FileName = Annotated[str, Field(pattern=r"^[^/\\\x00]+$", min_length=1)]


class PlannedFolders(BaseModel):
    """One run of a plan, and the folders of its trainings below ``runs``."""

    variant: str
    seed: int
    select: _FileName
    segment: _FileName | None


class PlanFile(BaseModel):
    """What `write_plan` writes."""

    ablation: str
    title: str
    compare: Literal["first", "previous"]
    bags: str
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


def write_plan(out: Path, plan: Plan, folders: Sequence[RunFolders], store: str) -> None:
    """Write down what belongs to the table, so that it can be made again without the plan."""
    rows = [{"variant": run.variant, "seed": run.seed, "select": run.select, "segment": run.segment} for run in folders]
    settings = plan.settings
    content = {
        "ablation": plan.name,
        "title": settings.title or plan.name,
        "compare": settings.compare,
        "bags": store,
        "variants": [variant.name for variant in settings.variants],
        "runs": rows,
    }
    write_json(plan_file(out, plan.name), content, indent=2)


def gather(out: Path, name: str) -> dict[str, Any]:
    """The figures of the ablation `name` in the folder `out`, from the manifests of its finished runs.

    Returns: as table.json has it: ``variants`` by name, in their order, each with ``seeds``, every seed's figure and
        ``..._mean``, ``..._sd`` (of the sample) and ``..._sem`` of each; ``baselines``, the choices without training;
        ``finished`` and ``runs``, counts. Figures of unfinished runs are missing.
    Raises: UserError if the plan cannot be read.
    """
    plan = _read_plan(plan_file(out, name))
    found: dict[str, dict[int, dict[str, Any]]] = {variant: {} for variant in plan.variants}
    baselines: dict[str, float] = {}
    for run in plan.runs:
        selected = result_of(out / "runs" / run.select)
        segmented = None if run.segment is None else result_of(out / "runs" / run.segment)
        if selected is None or (run.segment is not None and segmented is None):
            continue
        try:
            found[run.variant][run.seed] = {**run.model_dump(), **_figures(selected, segmented)}
            fixed = {rule: float(selected["quality"][rule]["miou"]) for rule in _FIXED} if selected["quality"] else {}
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            file, problem = out / "runs" / run.select / MANIFEST, f"not the result of a run ({error!r})"
            raise UserError(file, "result", run.variant, problem, "Move that run away, and run ablate again") from error
        if len(fixed) and fixed["oracle"] >= baselines.get("oracle", 0.0):  # of several stores the fullest bags
            baselines = fixed
    return {
        "ablation": plan.ablation,
        "title": plan.title,
        "bags": plan.bags,
        "compare": plan.compare,
        "runs": len(plan.runs),
        "finished": sum(map(len, found.values())),
        "variants": _rows(found, plan.compare),
        "baselines": {rule: round(value, 6) for rule, value in baselines.items()},
    }


def _read_plan(file: Path) -> PlanFile:
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
        "at_chance": bool(training.get("at_chance") or selected["fallback"]),
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
        row["select_runs"] = [run["select"] for run in runs]
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
