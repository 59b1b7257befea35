"""`sapnet-pipe generate-bags`: stage one."""

from shlex import quote

import typer

from sapnet_pipe.pipeline.inputs import Images, Inputs, OneCategory, OutStore, Points, PointsFormat
from sapnet_pipe.pipeline.outputs import require_folder
from sapnet_pipe.pipeline.report import Report
from sapnet_pipe.stages.bags.config import BagsConfig


class GenerateBagsInputs(Inputs, frozen=True, extra="forbid"):
    """What `generate-bags` takes."""

    images: Images
    points: Points
    out: OutStore
    points_format: PointsFormat = None
    category: OneCategory = None


def generate_bags(inputs: GenerateBagsInputs, settings: BagsConfig) -> Report:
    """Make the bag of every point. The store goes on where an interrupted run of the same settings stopped."""
    from sapnet_pipe.data.bag_store.filesystem import parse_location
    from sapnet_pipe.data.points.reader import read_line, read_points

    require_folder(inputs.images, "--images")
    point_set = read_points(inputs.points, inputs.images, form=inputs.points_format, category=inputs.category)
    if not inputs.quiet:
        typer.echo(read_line(point_set), err=True)

    from sapnet_pipe.stages.bags.run import run  # torch, which a fault above need not wait for

    summary = run(point_set, inputs.images, parse_location(inputs.out), settings, quiet=inputs.quiet)
    out = quote(inputs.out)
    following = f"sapnet-pipe select --bags {out} --images {quote(str(inputs.images))} --out RUN"
    if summary.shards < summary.shards_total:
        following = f"sapnet-pipe bags merge {out} OTHER_PARTS --out BAGS"
    notes = list(summary.notes)
    if summary.already_complete:
        notes.append("the store was complete before: nothing was left to do.")
    if summary.set_aside:
        notes.append(f"damaged shards were made again; what they held is kept in {', '.join(summary.set_aside)}.")
    if summary.failed_images:
        without = f"{summary.failed_images} images could not be read and have no bags"
        notes.append(f"{without}: manifest.json says why, and --retry-failed tries them again.")
    result = summary.to_dict() | {"points_format": point_set.taken_for}
    shown = {key: value for key, value in result.items() if key != "notes"}
    return Report(f"Bags written to {inputs.out}", result, following, notes, shown)
