"""`sapnet-pipe generate-bags` and `sapnet-pipe bags ...`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from shlex import quote
from typing import Any

from sapnet_pipe.data.bag_store.filesystem import Location, parse_location
from sapnet_pipe.data.coco.instances import read_instances
from sapnet_pipe.data.points.reader import read_points
from sapnet_pipe.pipeline.command_settings import PlainSettings
from sapnet_pipe.pipeline.outputs import require_folder
from sapnet_pipe.pipeline.report import Report
from sapnet_pipe.pipeline.settings import resolve_settings

_CATEGORIES_SHOWN = 10


def generate_bags(
    points: Path,
    images: Path,
    out: Location,
    *,
    file: Path | None = None,
    assign: Sequence[str] = (),
    flags: Mapping[str, Any] | None = None,
    quiet: bool = False,
) -> Report:
    """Stage one. The folder `out` goes on where an interrupted run of the same settings stopped."""
    from sapnet_pipe.stages.bags.config import BagsConfig

    settings = resolve_settings(BagsConfig, file=file, assignments=assign, flags=flags)
    require_folder(images, "--images")
    point_set = read_points(points, images)

    from sapnet_pipe.stages.bags.run import run  # torch, which a fault above need not wait for

    summary = run(point_set, images, parse_location(str(out)), settings, quiet=quiet)
    following = f"sapnet-pipe select --bags {quote(str(out))} --images {quote(str(images))} --out RUN"
    if summary.shards < summary.shards_total:
        following = f"sapnet-pipe bags merge {quote(str(out))} OTHER_PARTS --out BAGS"
    notes = ["the store was complete before: nothing was left to do."] if summary.already_complete else []
    if summary.failed_images:
        without = f"{summary.failed_images} images could not be read and have no bags"
        notes.append(f"{without}: manifest.json says why, and --retry-failed tries them again.")
    return Report(f"Bags written to {out}", summary.to_dict(), following, notes)


def verify_bags(
    bags: Location,
    *,
    device: str | None = None,
    seed: int | None = None,
    file: Path | None = None,
    assign: Sequence[str] = (),
    quiet: bool = False,
) -> Report:
    """Check every byte of a store."""
    from sapnet_pipe.stages.bags.verify import verify

    resolve_settings(PlainSettings, file=file, assignments=assign, flags={"device": device, "seed": seed})
    report = verify(parse_location(str(bags)), quiet=quiet)
    return Report(f"{bags} is sound", report.to_dict())


def inspect_bags(
    bags: Location,
    *,
    truth: Path | None,
    device: str | None = None,
    seed: int | None = None,
    file: Path | None = None,
    assign: Sequence[str] = (),
    quiet: bool = False,
) -> Report:
    """Describe a store; with the truth, also how good its masks are."""
    from sapnet_pipe.stages.bags.inspect import inspect

    resolve_settings(PlainSettings, file=file, assignments=assign, flags={"device": device, "seed": seed})
    dataset = read_instances(truth) if truth is not None else None
    result = inspect(parse_location(str(bags)), dataset, quiet=quiet).to_dict()
    notes = []
    if result["shards"] < result["shards_total"]:
        notes.append("this is a part of a store: bags merge joins it with the others.")
    return Report(f"Bag store {bags}", result, shown=_shown(result), notes=notes)


def _shown(result: Mapping[str, Any]) -> dict[str, Any]:
    """The report with the most frequent of many categories; --json has them all."""
    categories = sorted(result["categories"].items(), key=lambda item: (-item[1], item[0]))
    if len(categories) <= _CATEGORIES_SHOWN:
        return dict(result)
    most, others = dict(categories[:_CATEGORIES_SHOWN]), categories[_CATEGORIES_SHOWN:]
    return dict(result) | {"categories": most | {f"{len(others)} others": sum(count for _, count in others)}}
