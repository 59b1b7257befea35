"""`sapnet-pipe predict`: a trained model of stage three on photographs."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from shlex import quote
from typing import Annotated, Any

from pydantic import Field

from sapnet_pipe.data.errors import FaultReport, UserError
from sapnet_pipe.data.files import read_json
from sapnet_pipe.data.pixel_depth import Depth
from sapnet_pipe.pipeline.inputs import Inputs, LocalPath, OutFile, PlainSettings
from sapnet_pipe.pipeline.outputs import require_folder, require_new_file, require_new_folder
from sapnet_pipe.pipeline.report import Report
from sapnet_pipe.stages.flags import DEPTH_FLAG, DepthText, Device, MaxFailureRate
from sapnet_pipe.stages.training.run_files import MODEL, MODEL_DESCRIPTION, image_ids_beside


class PredictInputs(Inputs, frozen=True, extra="forbid"):
    """What `predict` takes."""

    run: Path = Field(description="Run folder of train-seg.")
    images: Path = Field(description="Folder of the photographs, or one photograph.")
    out: OutFile
    images_json: Path | None = Field(default=None, description="COCO file that gives the image ids.")
    draw: LocalPath | None = Field(default=None, description="New folder for pictures of what was found.")


class PredictSettings(PlainSettings, frozen=True, extra="forbid"):
    """Settings of `predict`; what is None is as the model was trained."""

    device: Device = "auto"
    score_threshold: float | None = Field(default=None, ge=0, le=1, description="Score that an instance needs.")
    max_per_image: int | None = Field(default=None, gt=0, le=1_000_000, description="Instances of one photograph.")
    batch_size: int | None = Field(default=None, gt=0, le=65_536, description="Photographs per forward pass.")
    depth: Annotated[DepthText | None, DEPTH_FLAG] = Field(
        default=None, description="What becomes 0 and 255 of photographs of more than 8 bits a channel."
    )
    max_failure_rate: MaxFailureRate = 0.0
    draw_score: float = Field(default=0.3, ge=0, le=1, description="Score that an instance needs to be drawn.")


def predict(inputs: PredictInputs, settings: PredictSettings) -> Report:
    """Instances of every photograph in COCO's results form; with `draw`, also pictures of them in that new folder."""
    images, out, draw = inputs.images, inputs.out, inputs.draw
    _require_new(out, draw)
    if not images.is_file():
        require_folder(images, "--images")
    require_model(inputs.run)

    from sapnet_pipe.stages.segment.predict import run

    try:
        summary = run(
            inputs.run,
            images,
            out,
            images_json=inputs.images_json,
            device=settings.device,
            score_threshold=settings.score_threshold,
            max_per_image=settings.max_per_image,
            batch_size=settings.batch_size,
            depth=None if settings.depth is None else Depth.parse(settings.depth),
            max_failure_rate=settings.max_failure_rate,
            quiet=inputs.quiet,
        ).to_dict()
    except UserError:
        out.unlink(missing_ok=True)  # predictions whose image ids could not be written
        raise
    if draw is not None:
        depth = Depth.parse(summary["depth"])
        pictures = _draw(out, Path(summary["image_ids"]), images, draw, settings.draw_score, depth, inputs.quiet)
        summary |= {"pictures": pictures, "drawn": str(draw) if pictures else None}
    following = f"sapnet-pipe evaluate --truth TRUTH.json --predictions {quote(str(out))}"
    shown = {key: value for key, value in summary.items() if key != "notes"}
    return Report(f"Predictions written to {out}", summary, following, _notes(summary, settings), shown)


def _require_new(out: Path, draw: Path | None) -> None:
    """Raises: UserError if anything that `predict` is to write is there."""
    require_new_file(out)
    require_new_file(image_ids_beside(out))
    if draw is not None:
        require_new_folder(draw, "--draw")


def require_model(run_dir: Path) -> None:
    """Raises: UserError if the folder is not that of a finished training."""
    from sapnet_pipe.stages.segment.engine import begun_engine

    if run_dir.is_dir() and not (run_dir / MODEL).is_file():
        begun = begun_engine(run_dir) is not None and (run_dir / MODEL_DESCRIPTION).is_file()
        problem = f"a training that is not finished: no {MODEL}" if begun else f"a folder without {MODEL}"
        hint = "Go on with train-seg --resume" if begun else "Give the --out folder of train-seg"
        raise UserError("--run", "path", str(run_dir), problem, hint)


def _draw(
    predictions: Path, image_ids: Path, images: Path, draw: Path, min_score: float, depth: Depth, quiet: bool
) -> int:
    from sapnet_pipe.pipeline.pictures.predictions import draw_predictions
    from sapnet_pipe.stages.segment.image_list import images_of_file

    images = images.parent if images.is_file() else images
    records = images_of_file(image_ids, images, FaultReport(image_ids))
    names = _category_names(read_json(image_ids).get("categories"))
    try:
        return draw_predictions(
            predictions, records, images, draw, names=names, min_score=min_score, depth=depth, quiet=quiet
        )
    except UserError:
        if not predictions.resolve().is_relative_to(draw.resolve()):  # finished predictions stay
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
    notes = list(summary["notes"])
    if not summary["instances"]:
        return [
            *notes,
            "nothing was found on any photograph: train longer, or check that these are photographs of such things.",
        ]
    if summary.get("pictures") == 0:
        return [
            *notes,
            f"no instance scored {settings.draw_score:g}, so nothing was drawn: --set draw_score=... lowers that.",
        ]
    if "pictures" in summary:
        drawn, images = summary["pictures"], summary["images"]
        others = "" if drawn == images else f"; on the others no instance scored {settings.draw_score:g} (draw_score)"
        notes.append(f"{drawn} of {images} photographs are drawn in {summary['drawn']}{others}.")
    return notes
