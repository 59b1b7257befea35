"""`sapnet-pipe points`: one point per object from a mask-annotated set."""

from pathlib import Path
from shlex import quote
from typing import Annotated, Literal

from pydantic import Field

from sapnet_pipe.pipeline.inputs import Inputs, OutFile, PlainSettings
from sapnet_pipe.pipeline.outputs import require_new_file
from sapnet_pipe.pipeline.report import Report
from sapnet_pipe.stages.flags import FLAG, KeepCrowds, Seed

Strategy = Literal["quasi-center", "center", "uniform"]


class PointsInputs(Inputs, frozen=True, extra="forbid"):
    """What `points` takes."""

    annotations: Path = Field(description="COCO instances with masks.")
    out: OutFile
    keep_crowds: KeepCrowds = False


class PointsSettings(PlainSettings, frozen=True, extra="forbid"):
    """Settings of `points`."""

    seed: Seed = 0
    strategy: Annotated[Strategy, FLAG] = Field(
        default="quasi-center",
        description="Near the middle of the mask, as the authors drew theirs; in its middle; anywhere inside.",
    )


def make_points(inputs: PointsInputs, settings: PointsSettings) -> Report:
    """Draw the points and write them as COCO JSON; crowds and empty masks are left out and counted."""
    from sapnet_pipe.data.coco.instances import read_instances
    from sapnet_pipe.data.points.reader import write_points
    from sapnet_pipe.data.points.sampling import sample_points

    require_new_file(inputs.out)
    dataset = read_instances(inputs.annotations, keep_crowds=inputs.keep_crowds)
    points = sample_points(dataset, settings.strategy, settings.seed, quiet=inputs.quiet)
    write_points(inputs.out, points)
    result = {
        "points": len(points),
        "images": len(points.images),
        "categories": len(points.categories),
        "dropped": points.dropped,
        "written": str(inputs.out),
    }
    following = f"sapnet-pipe generate-bags --images DIR --points {quote(str(inputs.out))} --out BAGS --sam vit_h"
    return Report(f"{len(points)} points written to {inputs.out}", result, following, dataset.notes)
