"""`sapnet-pipe generate-bags` and `sapnet-pipe bags ...`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from shlex import quote
from typing import Any

from data.coco import read_instances
from data.points import read_points
from pipeline.command_settings import PlainSettings
from pipeline.outputs import require_folder
from pipeline.report import Report
from pipeline.settings import resolve_settings


def generate_bags(
    points: Path,
    images: Path,
    out: Path,
    *,
    file: Path | None = None,
    assign: Sequence[str] = (),
    flags: Mapping[str, Any] | None = None,
    quiet: bool = False,
) -> Report:
    """Stage one. The folder `out` goes on where an interrupted run of the same settings stopped."""
    from stages.bags.config import BagsConfig

    settings = resolve_settings(BagsConfig, file=file, assignments=assign, flags=flags)
    require_folder(images, "--images")
    point_set = read_points(points, images)

    from stages.bags.run import run  # torch, which a fault above need not wait for

    summary = run(point_set, images, out, settings, quiet=quiet)
    following = f"sapnet-pipe select --bags {quote(str(out))} --images {quote(str(images))} --out RUN"
    notes = ["the store was complete before: nothing was left to do."] if summary.already_complete else []
    return Report(f"Bags written to {out}", summary.to_dict(), following, notes)


def verify_bags(
    bags: Path,
    *,
    device: str | None = None,
    seed: int | None = None,
    file: Path | None = None,
    assign: Sequence[str] = (),
    quiet: bool = False,
) -> Report:
    """Check every byte of a store."""
    from stages.bags.verify import verify

    resolve_settings(PlainSettings, file=file, assignments=assign, flags={"device": device, "seed": seed})
    report = verify(bags, quiet=quiet)
    return Report(f"{bags} is sound", report.to_dict())


def inspect_bags(
    bags: Path,
    *,
    truth: Path | None,
    device: str | None = None,
    seed: int | None = None,
    file: Path | None = None,
    assign: Sequence[str] = (),
    quiet: bool = False,
) -> Report:
    """Describe a store; with the truth, also how good its masks are."""
    from stages.bags.inspect import inspect

    resolve_settings(PlainSettings, file=file, assignments=assign, flags={"device": device, "seed": seed})
    dataset = read_instances(truth) if truth is not None else None
    return Report(f"Bag store {bags}", inspect(bags, dataset, quiet=quiet).to_dict())
