"""`sapnet-pipe bags COMMAND`: looking into bag stores, joining them, and carrying bags in and out."""

from pathlib import Path
from typing import Annotated

import typer

from sapnet_pipe.pipeline import options
from sapnet_pipe.pipeline.commands import bag_tools
from sapnet_pipe.pipeline.commands import bags as bag_jobs
from sapnet_pipe.pipeline.report import show

bags_app = typer.Typer(help="Check, describe, join, import and export bag stores.")

Store = Annotated[str, typer.Argument(help="Bag store: a folder, or a URL such as s3://bucket/prefix.")]


@bags_app.command("verify")
def verify(
    bags: Store,
    config: options.Config = None,
    assign: options.Assign = None,
    device: options.Device = None,
    seed: options.Seed = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Check checksums, schema, counts, and every mask against its box and area."""
    report = bag_jobs.verify_bags(bags, device=device, seed=seed, file=config, assign=assign or (), quiet=quiet)
    show(report, as_json=as_json, quiet=quiet)


@bags_app.command("inspect")
def inspect(
    bags: Store,
    truth: options.Truth = None,
    config: options.Config = None,
    assign: options.Assign = None,
    device: options.Device = None,
    seed: options.Seed = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Counts, sizes and scores; with --truth also how good the best, the top-1 and every fixed choice are."""
    report = bag_jobs.inspect_bags(
        bags, truth=truth, device=device, seed=seed, file=config, assign=assign or (), quiet=quiet
    )
    show(report, as_json=as_json, quiet=quiet)


@bags_app.command("merge")
def merge(
    parts: Annotated[list[str], typer.Argument(help="Parts made by generate-bags --set part=K/N.")],
    out: options.Store,
    config: options.Config = None,
    assign: options.Assign = None,
    device: options.Device = None,
    seed: options.Seed = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Join the parts of a store that were made apart. Run it again to go on after an interruption."""
    report = bag_tools.merge_bags(parts, out, device=device, seed=seed, file=config, assign=assign or (), quiet=quiet)
    show(report, as_json=as_json, quiet=quiet)


@bags_app.command("import")
def import_file(
    masks: Annotated[Path, typer.Argument(help="SAM_results_with_point_prompt_coco.json of the SAPNet authors.")],
    out: options.Store,
    points: Annotated[Path | None, typer.Option(help="Clicks by annotation id, if the file has none.")] = None,
    config: options.Config = None,
    assign: options.Assign = None,
    device: options.Device = None,
    seed: options.Seed = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Make a bag store of the authors' file of SAM masks. Run it again to go on after an interruption."""
    report = bag_tools.import_authors_file(
        masks, out, points=points, device=device, seed=seed, file=config, assign=assign or (), quiet=quiet
    )
    show(report, as_json=as_json, quiet=quiet)


@bags_app.command("export")
def export_file(
    bags: Store,
    out: options.OutFile,
    config: options.Config = None,
    assign: options.Assign = None,
    device: options.Device = None,
    seed: options.Seed = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Write a bag store as the authors' file of SAM masks, for their code."""
    report = bag_tools.export_authors_file(
        bags, out, device=device, seed=seed, file=config, assign=assign or (), quiet=quiet
    )
    show(report, as_json=as_json, quiet=quiet)
