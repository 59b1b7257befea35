"""The command line: `sapnet-pipe COMMAND`. Every command is one thin function; `pipeline.commands` does the work."""

import os
import sys
import traceback
from importlib import metadata
from pathlib import Path
from typing import Annotated

import typer

from sapnet_pipe.data.errors import UserError
from sapnet_pipe.pipeline import ablate_commands, options
from sapnet_pipe.pipeline.bag_commands import bags_app
from sapnet_pipe.pipeline.commands import bags as bag_jobs
from sapnet_pipe.pipeline.commands import evaluate as evaluate_job
from sapnet_pipe.pipeline.commands import points as point_job
from sapnet_pipe.pipeline.commands import segment as segment_jobs
from sapnet_pipe.pipeline.commands import select as select_job
from sapnet_pipe.pipeline.machine_faults import machine_fault
from sapnet_pipe.pipeline.report import Report, show

# typer carries its own copy of click from 0.20 on and needs the package before: take the class from where it is.
_UsageError: type[Exception] = typer.BadParameter.__mro__[1]

_INTERRUPTED = 130
_GO_ON = {
    "generate-bags": "Run the same command again: shards that are finished are kept.",
    "bags": "Run the same command again: what is finished is kept.",
    "select": "Run the same command again with --resume to go on from the last checkpoint.",
    "train-seg": "Run the same command again with --resume to go on from the last checkpoint.",
    "ablate": "Run the same command again: trainings that are finished are kept, and the others go on.",
    "demo": "Run it again with another --out.",
}

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(bags_app, name="bags")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"sapnet-pipe {metadata.version('sapnet-pipe')}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """From one click per object to an instance-segmentation model: points -> bags of SAM masks -> pseudo labels ->
    SOLOv2."""


@app.command()
def points(
    annotations: Annotated[Path, typer.Option(help="COCO instances with masks.", show_default=False)],
    out: options.OutFile,
    strategy: Annotated[
        str | None, typer.Option(help="quasi-center, center or uniform.", show_default="quasi-center")
    ] = None,
    config: options.Config = None,
    assign: options.Assign = None,
    device: options.Device = None,
    seed: options.Seed = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Make one point per object from a mask-annotated set."""
    report = point_job.make_points(
        annotations, out, strategy=strategy, seed=seed, device=device, file=config, assign=assign or (), quiet=quiet
    )
    _finish(report, as_json, quiet)


@app.command("generate-bags")
def generate_bags(
    images: options.Images,
    points: Annotated[Path, typer.Option(help="Points: COCO JSON, P2BNet, PointSup, keypoints or CSV.")],
    out: options.Store,
    sam: Annotated[str | None, typer.Option(help="tiny, vit_b, vit_l or vit_h.", show_default="vit_h")] = None,
    checkpoint: Annotated[Path | None, typer.Option(help="SAM weights; else downloaded once.")] = None,
    recipe: Annotated[
        str | None, typer.Option(help="multimask (3), refined or centred (up to 6).", show_default="refined")
    ] = None,
    fast: Annotated[
        bool | None, typer.Option("--fast/--exact", help="Several times faster, equal but for rounding.")
    ] = None,
    precision: Annotated[
        str | None, typer.Option(help="float32, bfloat16 or float16, with --fast.", show_default="bfloat16")
    ] = None,
    features: Annotated[
        bool | None, typer.Option("--features", help="Also keep SAM's image features of each mask.")
    ] = None,
    ray: Annotated[
        str | None, typer.Option("--ray", help="auto or the address of a Ray cluster: many devices and machines.")
    ] = None,
    max_failure_rate: Annotated[
        float | None, typer.Option(help="Share of the images that may be unreadable.", show_default="0")
    ] = None,
    retry_failed: Annotated[
        bool | None, typer.Option("--retry-failed", help="Try the images again that could not be read before.")
    ] = None,
    config: options.Config = None,
    assign: options.Assign = None,
    device: options.Device = None,
    seed: options.Seed = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Stage one: a bag of candidate masks for every point. Run it again to go on after an interruption."""
    flags = {
        "sam": sam, "checkpoint": checkpoint, "recipe": recipe, "fast": fast, "precision": precision,
        "features": features, "max_failure_rate": max_failure_rate, "retry_failed": retry_failed, "ray": ray,
        "device": device, "seed": seed,
    }  # fmt: skip
    _finish(
        bag_jobs.generate_bags(points, images, out, file=config, assign=assign or (), flags=flags, quiet=quiet),
        as_json,
        quiet,
    )


@app.command()
def select(
    bags: options.Bags,
    images: options.Images,
    out: options.Out,
    method: Annotated[
        str | None, typer.Option(help="sapnet, single-mil, sam-top1, largest or oracle.", show_default="sapnet")
    ] = None,
    preset: Annotated[str, typer.Option(help="Named settings, e.g. coco-1x or demo.")] = "coco-1x",
    truth: options.Truth = None,
    frozen: options.Frozen = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="Write explain.parquet: every mask's scores at every step.")
    ] = False,
    config: options.Config = None,
    assign: options.Assign = None,
    device: options.Device = None,
    seed: options.Seed = None,
    resume: options.Resume = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Stage two: learn from the categories which mask of each bag is the object, and write pseudo labels."""
    flags = {"method": method, "device": device, "seed": seed, "frozen": {"enabled": True} if frozen else None}
    report = select_job.select(
        bags, images, out, preset=preset, truth=truth, file=config, assign=assign or (), flags=flags, explain=explain,
        resume=resume, quiet=quiet,
    )  # fmt: skip
    _finish(report, as_json, quiet)


@app.command("train-seg")
def train_seg(
    labels: Annotated[Path, typer.Option(help="COCO instances: pseudo labels or true masks.", show_default=False)],
    images: options.Images,
    out: options.Out,
    val_labels: Annotated[Path | None, typer.Option(help="COCO instances to evaluate on.")] = None,
    val_images: Annotated[Path | None, typer.Option(help="Folder of their images.")] = None,
    min_score: Annotated[
        float | None, typer.Option(help="Leave out labels of less confidence.", show_default="0")
    ] = None,
    engine: Annotated[str | None, typer.Option(help="auto, builtin or detectron2.", show_default="auto")] = None,
    preset: Annotated[str, typer.Option(help="Named settings.")] = "solov2-r50-1x",
    config: options.Config = None,
    assign: options.Assign = None,
    device: options.Device = None,
    seed: options.Seed = None,
    resume: options.Resume = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Stage three: train SOLOv2 on the labels."""
    flags = {"min_score": min_score, "engine": engine, "device": device, "seed": seed}
    report = segment_jobs.train_seg(
        labels, images, out, val_labels=val_labels, val_images=val_images, preset=preset, file=config,
        assign=assign or (), flags=flags, resume=resume, quiet=quiet,
    )  # fmt: skip
    _finish(report, as_json, quiet)


@app.command()
def predict(
    run: Annotated[Path, typer.Option(help="Run folder of train-seg.", show_default=False)],
    images: options.Images,
    out: options.OutFile,
    images_json: Annotated[Path | None, typer.Option(help="COCO file that gives the image ids.")] = None,
    draw: Annotated[Path | None, options.result("--draw", "New folder for pictures of what was found.")] = None,
    config: options.Config = None,
    assign: options.Assign = None,
    device: options.Device = None,
    seed: options.Seed = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Segment photographs with a trained model."""
    report = segment_jobs.predict(
        run, images, out, images_json=images_json, draw=draw, device=device, seed=seed, file=config,
        assign=assign or (), quiet=quiet,
    )  # fmt: skip
    _finish(report, as_json, quiet)


@app.command()
def evaluate(
    truth: Annotated[Path, typer.Option(help="COCO instances with true masks.", show_default=False)],
    labels: Annotated[Path | None, typer.Option(help="Pseudo labels: their masks are compared by id.")] = None,
    predictions: Annotated[Path | None, typer.Option(help="COCO results: mask and box AP.")] = None,
    config: options.Config = None,
    assign: options.Assign = None,
    device: options.Device = None,
    seed: options.Seed = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Measure pseudo labels or predictions against true masks."""
    report = evaluate_job.evaluate(
        truth, labels=labels, predictions=predictions, device=device, seed=seed, file=config, assign=assign or ()
    )
    _finish(report, as_json, quiet)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder of the demo; must be new.")] = Path("runs/demo"),
    config: options.Config = None,
    assign: options.Assign = None,
    device: options.Device = None,
    seed: options.Seed = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """The whole job on rendered scenes: three stages, a table and pictures, in under ten minutes on two cores."""
    from sapnet_pipe.pipeline.demo.run import run_demo

    report = run_demo(out, device=device, seed=seed, file=config, assign=assign or (), quiet=quiet)
    _finish(report, as_json, quiet)


app.command()(ablate_commands.ablate)
app.command()(ablate_commands.report)


@app.command()
def doctor(
    images: Annotated[Path | None, typer.Option(help="Folder of the photographs.")] = None,
    points: Annotated[Path | None, typer.Option(help="Points in any form, to be checked.")] = None,
    labels: Annotated[Path | None, typer.Option(help="COCO instances or pseudo labels, to be checked.")] = None,
    sam: Annotated[str | None, typer.Option(help="tiny, vit_b, vit_l or vit_h.", show_default="vit_h")] = None,
    checkpoint: Annotated[Path | None, typer.Option(help="SAM weights; else the official ones.")] = None,
    recipe: Annotated[
        str | None, typer.Option(help="multimask (3) or refined (up to 6).", show_default="refined")
    ] = None,
    config: options.Config = None,
    assign: options.Assign = None,
    device: options.Device = None,
    seed: options.Seed = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Is this machine fit, are these files sound, how long will stage one take? Exits with 2 if not."""
    from sapnet_pipe.pipeline.doctor.page import report_of
    from sapnet_pipe.pipeline.doctor.run import examine

    flags = {"sam": sam, "checkpoint": checkpoint, "recipe": recipe, "device": device, "seed": seed}
    found = examine(
        points=points, images=images, labels=labels, file=config, assign=assign or (), flags=flags, quiet=quiet
    )
    _finish(report_of(found), as_json, quiet)
    raise typer.Exit(2 if found.errors else 0)


def _finish(report: Report, as_json: bool, quiet: bool) -> None:
    show(report, as_json=as_json, quiet=quiet)


def main() -> None:
    """Run the command line. Exit codes: 0 done, 2 the user can fix it, 1 our fault, 130 interrupted."""
    # Spinning OpenMP threads make a busy machine many times slower; torch reads this when it is imported, later on.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit code; user errors become one line on standard error."""
    try:
        code = app(args=arguments or ["--help"], prog_name="sapnet-pipe", standalone_mode=False)
        return _interrupted(arguments) if code == _INTERRUPTED else code if isinstance(code, int) else 0
    except UserError as error:
        return _fail(str(error), 2)
    except _UsageError as error:
        return _fail(_usage(error, arguments), 2)
    except (KeyboardInterrupt, typer.Abort):  # newer releases of typer return the code instead
        return _interrupted(arguments)
    except Exception as error:
        if (line := machine_fault(error)) is not None:
            return _fail(line, 2)
        traceback.print_exc()
        return _fail("a fault of sapnet-pipe; please report it with the lines above.", 1)


def _interrupted(arguments: list[str]) -> int:
    how = _GO_ON.get(next(iter(arguments), ""), "Nothing was written: run the same command again.")
    return _fail(f"interrupted. {how}", _INTERRUPTED)


def _usage(error: Exception, arguments: list[str]) -> str:
    """What is wrong with the command line, and where its options are explained."""
    text = error.format_message() if hasattr(error, "format_message") else str(error)
    names = getattr(getattr(error, "param", None), "opts", ())
    given = next((arguments[place + 1] for place, name in enumerate(arguments[:-1]) if name in names), None)
    value = f" ({given!r} was given)" if given is not None and given not in text else ""
    context = getattr(error, "ctx", None)
    command = "sapnet-pipe" if context is None else context.command_path
    stop = "" if text.endswith("?") else "."
    return f"{text.rstrip('.')}{value}{stop} See {command} --help."


def _fail(message: str, code: int) -> int:
    typer.echo(f"sapnet-pipe: {' '.join(message.split())}", err=True)
    return code


if __name__ == "__main__":  # for torchrun -m sapnet_pipe.pipeline.cli
    main()
