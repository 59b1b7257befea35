"""Train both engines on a demo's folders and compare their mask AP, seed by seed.

    python -m tests.stages.segment.detectron2.compare_engines runs/demo --out runs/engines

Writes one run folder per engine, kind of labels and seed; prints a table and, last, one JSON line.
"""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from sapnet_pipe.pipeline.commands.evaluate import EvaluateInputs, evaluate
from sapnet_pipe.pipeline.commands.predict import PredictInputs, PredictSettings, predict
from sapnet_pipe.pipeline.commands.train_seg import TrainSegInputs, train_seg
from sapnet_pipe.pipeline.report import table
from sapnet_pipe.pipeline.settings import resolve_settings
from sapnet_pipe.stages.segment.config import SegmentConfig
from sapnet_pipe.stages.segment.presets import PRESETS

ENGINES = ("builtin", "detectron2")


def compare(
    demo: Path, out: Path, *, seeds: list[int], preset: str = "demo", assign: list[str] | None = None
) -> dict[str, dict[str, list[float]]]:
    """Mask AP on the demo's test scenes: ``{"pseudo": {"builtin": [per seed], "detectron2": [...]}, "true": ...}``.

    Args:
        demo: As `sapnet-pipe demo` leaves it: train/images, train/instances.json, test/..., and perhaps
            sapnet/pseudo_labels.json.
    """
    truth = demo / "train" / "instances.json"
    labels = {"pseudo": demo / "sapnet" / "pseudo_labels.json", "true": truth}
    found: dict[str, dict[str, list[float]]] = {}
    for kind, file in labels.items():
        if not file.is_file():
            continue
        for engine in ENGINES:
            for seed in seeds:
                run = out / f"{engine}-{kind}-{seed}"
                flags = {"engine": engine, "seed": seed, "device": "cpu"}
                settings = resolve_settings(
                    SegmentConfig, preset=PRESETS[preset], assignments=assign or (), flags=flags
                )
                images = demo / "train" / "images"
                train_seg(TrainSegInputs(labels=file, images=images, out=run, quiet=True), settings)
                found.setdefault(kind, {}).setdefault(engine, []).append(_mask_ap(run, demo / "test"))
    return found


def _mask_ap(run: Path, test: Path) -> float:
    """By the commands that a user would type, the same for both engines."""
    predictions = run / "test_predictions.json"
    truth = test / "instances.json"
    inputs = PredictInputs(run=run, images=test / "images", out=predictions, images_json=truth, quiet=True)
    predict(inputs, PredictSettings(device="cpu"))
    return float(evaluate(EvaluateInputs(truth=truth, predictions=predictions)).result["segm"]["AP"])


def main(
    demo: Path,
    out: Annotated[Path, typer.Option(help="New folder for the runs.")],
    seeds: int = 3,
    preset: str = "demo",
    assign: Annotated[list[str] | None, typer.Option("--set")] = None,
) -> None:
    """Compare the engines."""
    found: dict[str, Any] = compare(demo, out, seeds=list(range(seeds)), preset=preset, assign=assign)
    rows = [
        (f"{engine}, {kind} labels", *(f"{ap:.4f}" for ap in aps), f"{sum(aps) / len(aps):.4f}")
        for kind, engines in found.items()
        for engine, aps in engines.items()
    ]
    typer.echo(table(("mask AP", *(f"seed {seed}" for seed in range(seeds)), "mean"), rows))
    typer.echo(json.dumps(found))


if __name__ == "__main__":
    typer.run(main)
