"""`sapnet-pipe train-seg` and `sapnet-pipe predict`: stage three."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from shlex import quote
from typing import Any

from sapnet_pipe.data.errors import UserError
from sapnet_pipe.data.files import read_json, sha256_file
from sapnet_pipe.pipeline.command_settings import PredictSettings
from sapnet_pipe.pipeline.outputs import require_folder, require_new_file, require_new_folder
from sapnet_pipe.pipeline.pictures.predictions import draw_predictions
from sapnet_pipe.pipeline.report import Report
from sapnet_pipe.pipeline.run_folder import open_run
from sapnet_pipe.pipeline.settings import preset_named, resolve_settings
from sapnet_pipe.stages.training.run_files import MODEL, MODEL_DESCRIPTION, PSEUDO_LABELS, image_ids_beside


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
    from sapnet_pipe.stages.segment.config import SegmentConfig
    from sapnet_pipe.stages.segment.presets import PRESETS
    from sapnet_pipe.stages.segment.run import run

    chosen = preset_named(PRESETS, preset)
    settings = resolve_settings(SegmentConfig, preset=chosen, file=file, assignments=assign, flags=flags)
    require_folder(images, "--images")
    if val_images is not None:
        require_folder(val_images, "--val-images")
    if (labels / PSEUDO_LABELS).is_file():
        hint = f"Give {labels / PSEUDO_LABELS}"
        raise UserError("--labels", "path", str(labels), "a run folder of select, not a file of labels", hint)
    inputs = {"labels": sha256_file(labels)}
    if val_labels is not None:
        inputs["val_labels"] = sha256_file(val_labels)
    with open_run(
        out, command="train-seg", settings=settings, inputs=inputs, seed=settings.seed, resume=resume
    ) as folder:
        summary = run(
            labels, images, out, settings, val_labels=val_labels, val_images=val_images, resume=resume, quiet=quiet
        ).to_dict()
        folder.finish(summary)
    following = f"sapnet-pipe predict --run {quote(str(out))} --images DIR --out predictions.json"
    return Report(f"Model written to {out}", summary, following, silent=not folder.written)


def predict(
    run_dir: Path,
    images: Path,
    out: Path,
    *,
    images_json: Path | None = None,
    draw: Path | None = None,
    device: str | None = None,
    seed: int | None = None,
    file: Path | None = None,
    assign: Sequence[str] = (),
    quiet: bool = False,
) -> Report:
    """Instances of every photograph in COCO's results form; with `draw`, also pictures of them in that new folder."""
    from sapnet_pipe.stages.segment.predict import run

    settings = resolve_settings(PredictSettings, file=file, assignments=assign, flags={"device": device, "seed": seed})
    _require_new(out, images_json, draw)
    require_folder(images, "--images")
    _require_model(run_dir)
    try:
        summary = run(
            run_dir,
            images,
            out,
            images_json=images_json,
            device=settings.device,
            score_threshold=settings.score_threshold,
            max_per_image=settings.max_per_image,
            batch_size=settings.batch_size,
            quiet=quiet,
        ).to_dict()
    except UserError:
        out.unlink(missing_ok=True)  # predictions whose image ids could not be written
        raise
    if draw is not None:
        pictures = _draw(out, Path(summary["image_ids"]), images, draw, settings.draw_score, quiet)
        summary |= {"pictures": pictures, "drawn": str(draw) if pictures else None}
    following = f"sapnet-pipe evaluate --truth TRUTH.json --predictions {quote(str(out))}"
    return Report(f"Predictions written to {out}", summary, following, notes=_notes(summary, settings))


def _require_new(out: Path, images_json: Path | None, draw: Path | None) -> None:
    """Raises: UserError if anything that `predict` is to write is there."""
    require_new_file(out)
    if images_json is None:
        require_new_file(image_ids_beside(out))
    if draw is not None:
        require_new_folder(draw, "--draw")


def _require_model(run_dir: Path) -> None:
    """Raises: UserError if the folder is not that of a finished training."""
    from sapnet_pipe.stages.segment.engine import begun_engine

    if run_dir.is_dir() and not (run_dir / MODEL).is_file():
        begun = begun_engine(run_dir) is not None and (run_dir / MODEL_DESCRIPTION).is_file()
        problem = f"a training that is not finished: no {MODEL}" if begun else f"a folder without {MODEL}"
        hint = "Go on with train-seg --resume" if begun else "Give the --out folder of train-seg"
        raise UserError("--run", "path", str(run_dir), problem, hint)


def _draw(predictions: Path, image_ids: Path, images: Path, draw: Path, min_score: float, quiet: bool) -> int:
    from sapnet_pipe.stages.segment.image_list import images_of_file

    records = images_of_file(image_ids)
    names = _category_names(read_json(image_ids).get("categories"))
    try:
        return draw_predictions(predictions, records, images, draw, names=names, min_score=min_score, quiet=quiet)
    except UserError:
        shutil.rmtree(draw, ignore_errors=True)  # it was new
        raise


def _category_names(entries: Any) -> dict[int, str]:
    """Names by category id, of a COCO file that need not have any."""
    listed = entries if isinstance(entries, list) else []
    return {
        entry["id"]: str(entry["name"])
        for entry in listed
        if isinstance(entry, dict) and {"id", "name"} <= entry.keys()
    }


def _notes(summary: Mapping[str, Any], settings: PredictSettings) -> list[str]:
    if not summary["instances"]:
        return [
            "nothing was found on any photograph: train longer, or check that these are photographs of such things."
        ]
    if summary.get("pictures") == 0:
        return [f"no instance scored {settings.draw_score:g}, so nothing was drawn: --set draw_score=... lowers that."]
    return []
