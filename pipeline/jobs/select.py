"""`sapnet-pipe select`: stage two in a run folder."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data.bag_store import BagStore
from data.coco import read_instances
from data.files import sha256_file
from pipeline.outputs import require_folder
from pipeline.report import Report
from pipeline.run_folder import open_run
from pipeline.settings import preset_named, resolve_settings


def select(
    bags: Path,
    images: Path,
    out: Path,
    *,
    preset: str = "coco-1x",
    truth: Path | None = None,
    file: Path | None = None,
    assign: Sequence[str] = (),
    flags: Mapping[str, Any] | None = None,
    resume: bool = False,
    quiet: bool = False,
) -> Report:
    """Train the selector (if the method is a trained one), choose a mask for every point, write pseudo labels."""
    from stages.select.presets import PRESETS
    from stages.select.run import run

    from stages.select.config import SelectConfig

    chosen = preset_named(PRESETS, preset)
    settings = resolve_settings(SelectConfig, preset=chosen, file=file, assignments=assign, flags=flags)
    require_folder(images, "--images")
    store = BagStore.open(bags)
    dataset = read_instances(truth) if truth is not None else None
    inputs = {"bags": store.fingerprint}
    if truth is not None:
        inputs["truth"] = sha256_file(truth)
    folder = open_run(out, command="select", settings=settings, inputs=inputs, seed=settings.seed, resume=resume)
    summary = run(store, images, out, settings, truth=dataset, resume=resume, quiet=quiet).to_dict()
    folder.finish(summary)
    following = f"sapnet-pipe train-seg --labels {out / 'pseudo_labels.json'} --images {images} --out RUN2"
    return Report(f"Pseudo labels written to {out / 'pseudo_labels.json'}", summary, following)
