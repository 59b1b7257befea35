"""`sapnet-pipe train-seg` and `sapnet-pipe predict`: stage three."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data.files import sha256_file
from pipeline.outputs import require_folder, require_new_file
from pipeline.report import Report
from pipeline.run_folder import open_run
from pipeline.settings import preset_named, resolve_settings


def train_seg(
    labels: Path,
    images: Path,
    out: Path,
    *,
    val_labels: Path | None = None,
    val_images: Path | None = None,
    preset: str = "solov2-r50-1x",
    file: Path | None = None,
    assign: Sequence[str] = (),
    flags: Mapping[str, Any] | None = None,
    resume: bool = False,
    quiet: bool = False,
) -> Report:
    """Train SOLOv2; with validation labels, also its mask and box AP."""
    from stages.segment.config import SegmentConfig
    from stages.segment.presets import PRESETS
    from stages.segment.run import run

    chosen = preset_named(PRESETS, preset)
    settings = resolve_settings(SegmentConfig, preset=chosen, file=file, assignments=assign, flags=flags)
    require_folder(images, "--images")
    if val_images is not None:
        require_folder(val_images, "--val-images")
    inputs = {"labels": sha256_file(labels)}
    if val_labels is not None:
        inputs["val_labels"] = sha256_file(val_labels)
    folder = open_run(out, command="train-seg", settings=settings, inputs=inputs, seed=settings.seed, resume=resume)
    summary = run(
        labels, images, out, settings, val_labels=val_labels, val_images=val_images, resume=resume, quiet=quiet
    ).to_dict()
    folder.finish(summary)
    following = f"sapnet-pipe predict --run {out} --images DIR --out predictions.json"
    return Report(f"Model written to {out}", summary, following)


def predict(
    run_dir: Path,
    images: Path,
    out: Path,
    *,
    images_json: Path | None = None,
    draw: Path | None = None,
    device: str = "auto",
    quiet: bool = False,
) -> Report:
    """Instances of every photograph in COCO's results form; with `draw`, also pictures of them."""
    from stages.segment.predict import run

    require_new_file(out)
    require_folder(images, "--images")
    summary = run(run_dir, images, out, images_json=images_json, device=device, quiet=quiet).to_dict()
    following = f"sapnet-pipe evaluate --truth TRUTH.json --predictions {out}"
    return Report(f"Predictions written to {out}", summary, following)
