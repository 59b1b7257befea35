"""`sapnet-pipe ablate` and `sapnet-pipe report`; every command is one thin function."""

from pathlib import Path
from typing import Annotated

import typer

from sapnet_pipe.pipeline import options
from sapnet_pipe.pipeline.command_settings import PlainSettings
from sapnet_pipe.pipeline.report import show
from sapnet_pipe.pipeline.settings import resolve_settings


def ablate(
    out: Annotated[Path, options.result("--out", "Folder of the runs and tables.")],
    bags: Annotated[str | None, typer.Option("--bags", help="Bag store of stage one: a folder or URL.")] = None,
    images: Annotated[Path | None, typer.Option("--images", help="Folder of the photographs.")] = None,
    truth: options.Truth = None,
    demo: Annotated[
        bool, typer.Option("--demo", help="Render the demo's scenes and make their bags first, in --out.")
    ] = False,
    preset: Annotated[
        str | None, typer.Option(help="chain, negatives, recipe, bms-k, pdg-exponent or beyond.", show_default=False)
    ] = None,
    frozen: options.Frozen = False,
    only: Annotated[list[str] | None, typer.Option("--only", help="Only this variant; may be repeated.")] = None,
    seeds: Annotated[int | None, typer.Option(help="Number of seeds, from --seed on.", show_default="5")] = None,
    select_preset: Annotated[str | None, typer.Option(help="Preset of select.", show_default="coco-1x")] = None,
    segment_preset: Annotated[
        str | None, typer.Option(help="Preset of the train-seg that follows.", show_default="none follows")
    ] = None,
    val_labels: Annotated[Path | None, typer.Option(help="COCO instances to evaluate segmenters on.")] = None,
    val_images: Annotated[Path | None, typer.Option(help="Folder of their images.")] = None,
    config: Annotated[
        Path | None, typer.Option("--config", help="TOML file that lists variants and seeds.", show_default=False)
    ] = None,
    assign: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Any setting, e.g. select.train.lr=0.01; may be repeated."),
    ] = None,
    device: options.Device = None,
    seed: options.Seed = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Train variants of the selector over one bag store and compare them. Run it again to go on."""
    from sapnet_pipe.pipeline.ablate.plan import make_plan
    from sapnet_pipe.pipeline.ablate.run import run_ablation

    flags = {
        "seeds": seeds, "select_preset": select_preset, "segment_preset": segment_preset, "device": device, "seed": seed
    }  # fmt: skip
    plan = make_plan(
        preset=preset, file=config, assign=assign or (), flags=flags, only=only or (), demo=demo, frozen=frozen
    )
    report = run_ablation(
        plan, out, bags=bags, images=images, truth=truth, val_labels=val_labels, val_images=val_images, demo=demo,
        quiet=quiet,
    )  # fmt: skip
    show(report, as_json=as_json, quiet=quiet)


def report(
    run: Annotated[Path, typer.Option(help="Folder of ablate.", show_default=False)],
    config: options.Config = None,
    assign: options.Assign = None,
    device: options.Device = None,
    seed: options.Seed = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Make the tables of an ablation again from its finished runs; nothing is trained."""
    from sapnet_pipe.pipeline.ablate.run import report_ablations

    resolve_settings(PlainSettings, file=config, assignments=assign or (), flags={"device": device, "seed": seed})
    show(report_ablations(run), as_json=as_json, quiet=quiet)
