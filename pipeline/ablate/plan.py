"""From a preset or a TOML file to the trainings of an ablation, every setting checked before the first one starts."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from sapnet_pipe.data.errors import UserError
from sapnet_pipe.pipeline.ablate.settings import AblateSettings, Seeds, VariantSettings
from sapnet_pipe.pipeline.settings import read_toml, resolve_settings
from sapnet_pipe.stages.segment.config import SegmentConfig
from sapnet_pipe.stages.segment.presets import PRESETS as SEGMENT_PRESETS
from sapnet_pipe.stages.select.config import SelectConfig
from sapnet_pipe.stages.select.presets import PRESETS as SELECT_PRESETS

FROZEN = "-frozen"
_OWN = ("seed", "device")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class PlannedRun:
    """One variant with one seed.

    Attributes:
        variant: The row that it belongs to.
        masks: ``all`` or ``point``, the masks of every bag that it sees.
        select, segment: Nested settings over the preset; `segment` is None where no segmenter follows.
        select_config, segment_config: The same, resolved.
    """

    variant: str
    seed: int
    masks: str
    select: Mapping[str, Any]
    segment: Mapping[str, Any] | None
    select_config: BaseModel
    segment_config: BaseModel | None


@dataclass(frozen=True)
class Plan:
    """An ablation: its name (the tables' file name), settings, and runs seed by seed, the rows in their order.

    With `frozen` only heads are trained, on features that are computed once.
    """

    name: str
    settings: AblateSettings
    runs: Sequence[PlannedRun]
    frozen: bool = False


def bundled_presets() -> dict[str, Mapping[str, Any]]:
    """The ablations that come with the program, by name."""
    folder = resources.files("sapnet_pipe.pipeline.ablate") / "presets"
    with resources.as_file(folder) as path:
        return {file.stem: read_toml(file) for file in sorted(path.glob("*.toml"))}


def make_plan(
    settings: AblateSettings,
    *,
    preset: str | None = None,
    file: Path | None = None,
    only: Sequence[str] = (),
    demo: bool = False,
    frozen: bool = False,
) -> Plan:
    """Resolve every training of an ablation.

    Args:
        settings: Of `file` over those of `preset`, either of which gives the plan its name; the file if both are there.
        only: Names of the variants to run; all if empty.
        demo: Whether it runs on the demo's scenes. frozen: Whether only heads are trained.
    Raises: UserError naming the setting at fault, and for select or train-seg settings also the variant.
    """
    if preset is None and file is None:
        known = ", ".join(bundled_presets())
        hint = f"Give --config with a TOML file of variants, or --preset with one of: {known}"
        raise UserError("ablate", "--config or --preset", "neither", "so there is no variant to run", hint)
    if not settings.select_preset:
        settings = settings.model_copy(update={"select_preset": "demo" if demo else "coco-1x"})
    source = str(file) if file is not None else f"preset {preset}"
    if not settings.variants:
        raise UserError(source, "variants", 0, "so there is nothing to run", "Name at least one under [[variants]]")
    name = file.stem if file is not None else str(preset)
    if not _NAME.fullmatch(name):
        raise UserError("--config", "file name", name, "by which the tables are called", "Use letters, digits, . _ -")
    if frozen:
        select = merged(settings.select, {"frozen": {"enabled": True}})
        settings = settings.model_copy(update={"select": select})
    variants = _chosen(settings.variants, only)
    seeds = {variant.name: _seeds(settings, variant.seeds) for variant in variants}
    order = sorted({place for own in seeds.values() for place in range(len(own))})
    runs = [
        _run(settings, variant, seeds[variant.name][place], demo=demo, source=source)
        for place in order
        for variant in variants
        if place < len(seeds[variant.name])
    ]
    settings = settings.model_copy(update={"variants": variants})
    return Plan(f"{name}{FROZEN}" if frozen else name, settings, runs, frozen)


def merged(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Nested settings, later layers winning."""
    result: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            below = result.get(key)
            if isinstance(value, Mapping):
                result[key] = merged(below if isinstance(below, Mapping) else {}, value)
            else:
                result[key] = value
    return result


def _chosen(variants: Sequence[VariantSettings], only: Sequence[str]) -> tuple[VariantSettings, ...]:
    known = [variant.name for variant in variants]
    unknown = next((name for name in only if name not in known), None)
    if unknown is not None:
        raise UserError("--only", "variant", unknown, "no such variant", f"Choose of: {', '.join(known)}")
    return tuple(variant for variant in variants if not only or variant.name in only)


def _seeds(settings: AblateSettings, own: Seeds | None) -> list[int]:
    seeds = settings.seeds if own is None else own
    return list(range(settings.seed, settings.seed + seeds)) if isinstance(seeds, int) else list(seeds)


def _run(settings: AblateSettings, variant: VariantSettings, seed: int, *, demo: bool, source: str) -> PlannedRun:
    common = {"seed": seed, "device": settings.device}
    select = merged(settings.select, variant.select)
    select_config = _checked(
        SelectConfig, SELECT_PRESETS, settings.select_preset, select, common, source, variant.name, "--select-preset"
    )
    segment, segment_config = None, None
    if settings.segment_preset:
        segment = merged({"engine": "builtin"} if demo else {}, settings.segment, variant.segment)
        preset = settings.segment_preset
        segment_config = _checked(
            SegmentConfig, SEGMENT_PRESETS, preset, segment, common, source, variant.name, "--segment-preset"
        )
        segment = merged(segment, common)
    return PlannedRun(variant.name, seed, variant.masks, merged(select, common), segment, select_config, segment_config)


def _checked(
    model: type[BaseModel],
    presets: Mapping[str, Mapping[str, Any]],
    preset: str,
    values: Mapping[str, Any],
    common: Mapping[str, Any],
    source: str,
    variant: str,
    option: str,
) -> BaseModel:
    """The resolved settings. Raises: UserError that names the variant at fault."""
    own = next((name for name in _OWN if name in values), None)
    where = f"{source}, variant {variant!r}"
    if own is not None:
        hint = f"Set {own if own == 'device' else 'seeds'} for the ablation instead"
        raise UserError(where, own, values[own], "which belongs to the whole ablation", hint)
    if preset not in presets:
        raise UserError(option, "name", preset, "no such preset", f"Choose one of: {', '.join(sorted(presets))}")
    try:
        return resolve_settings(model, preset=presets[preset], flags=merged(values, common))
    except UserError as error:
        raise UserError(where, error.field, error.value, error.problem, error.hint) from error
