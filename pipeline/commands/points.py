"""`sapnet-pipe points`: one point per object from a mask-annotated set, or the clicks of another tool as COCO JSON."""

from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from sapnet_pipe.data.errors import UserError
from sapnet_pipe.pipeline.inputs import Inputs, OneCategory, OutFile, PlainSettings, PointsFormat
from sapnet_pipe.pipeline.outputs import require_new_file
from sapnet_pipe.pipeline.report import Report
from sapnet_pipe.stages.flags import FLAG, KeepCrowds, Seed

if TYPE_CHECKING:
    from sapnet_pipe.data.points.point_set import PointSet

Strategy = Literal["quasi-center", "center", "uniform"]


class PointsInputs(Inputs, frozen=True, extra="forbid"):
    """What `points` takes: exactly one of `annotations` and `points`."""

    annotations: Path | None = Field(default=None, description="COCO instances with masks.")
    points: Path | None = Field(default=None, description="Points of any tool, to be written as COCO JSON.")
    images: Path | None = Field(default=None, description="Folder of the photographs of these points.")
    points_format: PointsFormat = None
    category: OneCategory = None
    out: OutFile
    keep_crowds: KeepCrowds = False


class PointsSettings(PlainSettings, frozen=True, extra="forbid"):
    """Settings of `points`."""

    seed: Seed = 0
    strategy: Annotated[Strategy, FLAG] = Field(
        default="quasi-center",
        description="Near the middle of the mask, as the authors drew theirs; in its middle; anywhere inside.",
    )
    hold_out: Annotated[float, FLAG] = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Share of the photographs whose points go to OUT.held_out.json, by class alike.",
    )


def make_points(inputs: PointsInputs, settings: PointsSettings) -> Report:
    """Draw or read the points and write them as COCO JSON; what is left out is counted."""
    from sapnet_pipe.data.points.hold_out import hold_out
    from sapnet_pipe.data.points.reader import write_points

    held_out = inputs.out.with_name(f"{inputs.out.stem}.held_out.json")
    require_new_file(inputs.out)
    if settings.hold_out:
        require_new_file(held_out)
    points, notes = _points(inputs, settings)
    result = {
        "points": len(points),
        "images": len(points.images),
        "categories": len(points.categories),
        "dropped": points.dropped,
        "written": str(inputs.out),
    }
    if settings.hold_out:
        points, held = hold_out(points, settings.hold_out, settings.seed)
        write_points(held_out, held)
        result["held_out"] = {"points": len(held), "images": len(held.images), "written": str(held_out)}
    write_points(inputs.out, points)
    images = "DIR" if inputs.images is None else quote(str(inputs.images))
    following = f"sapnet-pipe generate-bags --images {images} --points {quote(str(inputs.out))} --out BAGS --sam vit_h"
    return Report(f"{len(points)} points written to {inputs.out}", result, following, notes)


def _points(inputs: PointsInputs, settings: PointsSettings) -> "tuple[PointSet, list[str]]":
    """The points, drawn or read, and what has to be said of them."""
    from sapnet_pipe.data.coco.instances import read_instances
    from sapnet_pipe.data.points.reader import read_line, read_points
    from sapnet_pipe.data.points.sampling import sample_points

    if inputs.annotations is not None and inputs.points is None:
        dataset = read_instances(inputs.annotations, keep_crowds=inputs.keep_crowds)
        return sample_points(dataset, settings.strategy, settings.seed, quiet=inputs.quiet), list(dataset.notes)
    if inputs.points is not None and inputs.annotations is None:
        points = read_points(inputs.points, inputs.images, form=inputs.points_format, category=inputs.category)
        return points, [read_line(points), *points.notes]
    given = "neither" if inputs.points is None else "both"
    raise UserError("points", "--annotations or --points", given, "but points come from one", "Give exactly one")
