"""`ablate --frozen`: where its features come from, and how far its order of the variants agrees with full training."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

from sapnet_pipe.data.bag_store.store import BagStore
from sapnet_pipe.pipeline.ablate.inputs import Inputs
from sapnet_pipe.pipeline.ablate.plan import Plan, PlannedRun, merged
from sapnet_pipe.pipeline.ablate.tasks import Task, make_tasks, result_of
from sapnet_pipe.pipeline.settings import resolve_settings


def with_features(plan: Plan, inputs: Inputs, out: Path, train: Callable[[Task], None]) -> Plan:
    """Give the runs a folder for features in `out`, and a backbone that has been trained.

    SAM's features in the store need none, and pretrained weights are taken as they are. For a backbone that would start
    from random weights the selector of the settings that all variants share is trained in full, once, with `train`.
    """
    found: dict[str, Any] = {"cache": str(out / "features")}
    if any(_is_random(run, inputs) for run in plan.runs):
        full = merged(plan.settings.select, {"frozen": {"enabled": False}})
        first = _resolved(plan, merged(full, {"seed": plan.settings.seed, "device": plan.settings.device}))
        alone = replace(plan, runs=[replace(plan.runs[0], **first, variant="backbone", masks="all", segment=None)])
        (task,), _ = make_tasks(alone, {"": inputs}, out)
        if result_of(task.folder) is None:
            train(task)
        found["weights"] = str(task.folder)
    runs = []
    for run in plan.runs:
        own = found if _is_random(run, inputs) else {"cache": found["cache"]}
        runs.append(replace(run, **_resolved(plan, merged({"frozen": own}, run.select))))
    return replace(plan, runs=runs)


def agreement(full: Mapping[str, Any], frozen: Mapping[str, Any], figure: str = "miou") -> dict[str, Any]:
    """How far two tables put the variants in one order, over those of both whose selectors differ.

    Returns: ``variants``; ``spearman`` and ``kendall`` rank correlation of the means, None with less than two different
        ones; ``clear_pairs``, the pairs whose means differ by more than both standard errors together under full
        training, and ``clear_agreed``, those of them that the screening puts in the same order.
    """
    both = [
        (full["variants"][name], frozen["variants"][name]) for name in full["variants"] if name in frozen["variants"]
    ]
    both = [(a, b) for a, b in both if f"{figure}_mean" in a and f"{figure}_mean" in b]
    # A variant of stage three shares its selector's runs with another row, and would count twice.
    rows = list({tuple(a.get("select_runs", (place,))): (a, b) for place, (a, b) in enumerate(both)}.values())
    means = [(a[f"{figure}_mean"], b[f"{figure}_mean"]) for a, b in rows]
    clear = agreed = 0
    for (a, x), (b, y) in combinations(rows, 2):
        gap = a[f"{figure}_mean"] - b[f"{figure}_mean"]
        if abs(gap) > (a[f"{figure}_sem"] or 0) + (b[f"{figure}_sem"] or 0):
            clear += 1
            agreed += gap * (x[f"{figure}_mean"] - y[f"{figure}_mean"]) > 0
    return {
        "variants": len(rows),
        "spearman": _correlation(_ranks([a for a, _ in means]), _ranks([b for _, b in means])),
        "kendall": _kendall(means),
        "clear_pairs": clear,
        "clear_agreed": agreed,
    }


def agreement_line(name: str, found: Mapping[str, Any]) -> str:
    """The agreement in words."""
    numbers = ", ".join(f"{kind} {found[kind]:+.2f}" for kind in ("spearman", "kendall") if found[kind] is not None)
    pairs = f"of {found['clear_pairs']} pairs that differ clearly {found['clear_agreed']} are in the same order"
    return f"{name}: {found['variants']} variants under --frozen and in full: {numbers or 'all equal'}; {pairs}."


def _is_random(run: PlannedRun, inputs: Inputs) -> bool:
    """Whether the features of this run would be those of random weights."""
    from sapnet_pipe.stages.select.config import TRAINED_METHODS, SelectConfig

    config = SelectConfig.model_validate(run.select_config)
    if config.method not in TRAINED_METHODS or config.frozen.weights or config.backbone.weights != "none":
        return False
    of_sam = config.frozen.features != "backbone" and BagStore.open(inputs.bags[run.masks]).has_features
    return not of_sam


def _resolved(plan: Plan, select: dict[str, Any]) -> dict[str, Any]:
    from sapnet_pipe.stages.select.config import SelectConfig
    from sapnet_pipe.stages.select.presets import PRESETS

    config = resolve_settings(SelectConfig, preset=PRESETS[plan.settings.select_preset], flags=select)
    return {"select": select, "select_config": config}


def _kendall(pairs: Sequence[tuple[float, float]]) -> float | None:
    """Tau-b, which allows for ties."""
    products = [((a > b) - (a < b), (x > y) - (x < y)) for (a, x), (b, y) in combinations(pairs, 2)]
    apart = sum(a != 0 for a, _ in products) * sum(x != 0 for _, x in products)
    return round(sum(a * x for a, x in products) / apart**0.5, 4) if apart else None


def _ranks(values: Sequence[float]) -> list[float]:
    """Ranks from 0; equal values share the mean of theirs."""
    return [sum(other < value for other in values) + (values.count(value) - 1) / 2 for value in values]


def _correlation(a: Sequence[float], b: Sequence[float]) -> float | None:
    if not a:
        return None
    mean_a, mean_b = sum(a) / len(a), sum(b) / len(b)
    spread = sum((x - mean_a) ** 2 for x in a) * sum((y - mean_b) ** 2 for y in b)
    together = sum((x - mean_a) * (y - mean_b) for x, y in zip(a, b, strict=True))
    return round(together / spread**0.5, 4) if spread else None
