"""`sapnet-pipe points`: one point per object from a mask-annotated set."""

from pathlib import Path

from data.coco import read_instances
from data.point_sampling import sample_points
from data.points import write_points
from pipeline.outputs import require_new_file
from pipeline.report import Report


def make_points(annotations: Path, out: Path, *, strategy: str, seed: int, quiet: bool) -> Report:
    """Draw the points and write them as COCO JSON; crowds and empty masks are left out and counted."""
    require_new_file(out)
    points = sample_points(read_instances(annotations), strategy, seed, quiet=quiet)
    write_points(out, points)
    result = {
        "points": len(points),
        "images": len(points.images),
        "categories": len(points.categories),
        "dropped": points.dropped,
        "written": str(out),
    }
    following = f"sapnet-pipe generate-bags --images DIR --points {out} --out BAGS --sam vit_h"
    return Report(f"{len(points)} points written to {out}", result, following)
