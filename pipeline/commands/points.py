"""`sapnet-pipe points`: one point per object from a mask-annotated set."""

from collections.abc import Sequence
from pathlib import Path
from shlex import quote

from sapnet_pipe.data.coco.instances import read_instances
from sapnet_pipe.data.points.reader import write_points
from sapnet_pipe.data.points.sampling import sample_points
from sapnet_pipe.pipeline.command_settings import PointsSettings
from sapnet_pipe.pipeline.outputs import require_new_file
from sapnet_pipe.pipeline.report import Report
from sapnet_pipe.pipeline.settings import resolve_settings


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
