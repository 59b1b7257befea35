"""`sapnet-pipe points`: one point per object from a mask-annotated set."""

from collections.abc import Sequence
from pathlib import Path
from shlex import quote

from data.coco import read_instances
from data.point_sampling import sample_points
from data.points import write_points
from pipeline.command_settings import PointsSettings
from pipeline.outputs import require_new_file
from pipeline.report import Report
from pipeline.settings import resolve_settings


def make_points(
    annotations: Path,
    out: Path,
    *,
    strategy: str | None = None,
    seed: int | None = None,
    device: str | None = None,
    file: Path | None = None,
    assign: Sequence[str] = (),
    quiet: bool = False,
) -> Report:
    """Draw the points and write them as COCO JSON; crowds and empty masks are left out and counted."""
    flags = {"strategy": strategy, "seed": seed, "device": device}
    settings = resolve_settings(PointsSettings, file=file, assignments=assign, flags=flags)
    require_new_file(out)
    points = sample_points(read_instances(annotations), settings.strategy, settings.seed, quiet=quiet)
    write_points(out, points)
    result = {
        "points": len(points),
        "images": len(points.images),
        "categories": len(points.categories),
        "dropped": points.dropped,
        "written": str(out),
    }
    following = f"sapnet-pipe generate-bags --images DIR --points {quote(str(out))} --out BAGS --sam vit_h"
    return Report(f"{len(points)} points written to {out}", result, following)
