"""`sapnet-pipe bags merge|import|export`: stores joined, and bags carried in and out."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from shlex import quote

from data.bag_filesystem import parse_location
from data.bag_merge import merge_stores
from pipeline.command_settings import PlainSettings
from pipeline.report import Report
from pipeline.settings import resolve_settings


def merge_bags(
    parts: Sequence[str],
    out: str,
    *,
    device: str | None = None,
    seed: int | None = None,
    file: Path | None = None,
    assign: Sequence[str] = (),
    quiet: bool = False,
) -> Report:
    """Join parts of a store; the folder `out` goes on where an interrupted merge stopped."""
    resolve_settings(PlainSettings, file=file, assignments=assign, flags={"device": device, "seed": seed})
    summary = merge_stores([parse_location(part) for part in parts], parse_location(out), quiet=quiet)
    following = f"sapnet-pipe select --bags {quote(out)} --images DIR --out RUN"
    return Report(f"Bags written to {out}", asdict(summary) | {"out": out}, following)
