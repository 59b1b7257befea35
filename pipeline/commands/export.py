"""`sapnet-pipe export`: labels or predictions in the form of another tool, and what is lost in it."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from sapnet_pipe.data.errors import UserError
from sapnet_pipe.pipeline.inputs import Inputs, LocalPath, PlainSettings
from sapnet_pipe.pipeline.outputs import require_folder, require_new_file, require_new_folder
from sapnet_pipe.pipeline.report import Report
from sapnet_pipe.stages.flags import FLAG, KeepCrowds, Seed
from sapnet_pipe.stages.training.run_files import image_ids_beside

if TYPE_CHECKING:
    from sapnet_pipe.data.exports.source import ExportSource

FormName = Literal[
    "coco-polygons",
    "yolo",
    "labelme",
    "cvat",
    "label-studio",
    "png",
    "voc",
    "geojson",
    "fiftyone",
    "huggingface",
]


class ExportInputs(Inputs, frozen=True, extra="forbid"):
    """What `export` takes: exactly one of `labels` and `predictions`."""

    labels: Path | None = Field(default=None, description="Pseudo labels, or any COCO instances.")
    predictions: Path | None = Field(default=None, description="COCO results, as predict writes them.")
    images_json: Path | None = Field(
        default=None, description="COCO file of the predictions' images, if it is not beside them."
    )
    images: Path | None = Field(default=None, description="Folder of the photographs.")
    to: FormName = Field(description="Form of the result (docs/exports.md).")
    out: LocalPath = Field(description="File or, of most forms, folder of the result; must not exist yet.")
    keep_crowds: KeepCrowds = False


class ExportSettings(PlainSettings, frozen=True, extra="forbid"):
    """Settings of `export`; a form that has no use for one passes over it."""

    seed: Seed = 0
    min_score: Annotated[float, FLAG] = Field(
        default=0.0, ge=0, le=1, description="Score that an object needs, if it has one."
    )
    val_share: Annotated[float, FLAG] = Field(
        default=0.2, ge=0, lt=1, description="Share of the images in the validation part of yolo, voc and huggingface."
    )
    photographs: Annotated[Literal["copy", "link", "none"], FLAG] = Field(
        default="copy",
        description="What becomes of the photographs in yolo, voc, fiftyone and huggingface.",
    )
    shape: Literal["auto", "polygon", "mask"] = Field(
        default="auto", description="Shapes of labelme (auto: polygon) and label-studio (auto: mask, its brush)."
    )
    holes: Literal["fill", "bridge"] = Field(
        default="fill", description="What forms without holes do: fill them, or join them to the outline by a line."
    )
    tolerance: float = Field(
        default=0.0,
        ge=0,
        le=100,
        description="Pixels by which polygons may leave the outline to have fewer corners.",
    )
    image_prefix: str = Field(
        default="/data/local-files/?d=", description="What label-studio finds before a photograph's name."
    )


def export(inputs: ExportInputs, settings: ExportSettings) -> Report:
    """Write labels or predictions in another form."""
    _require_one(inputs)
    if inputs.images is not None:
        require_folder(inputs.images, "--images")

    from sapnet_pipe.data.exports.forms import FORMS, write_form
    from sapnet_pipe.data.exports.record import ExportJob, ExportOptions
    from sapnet_pipe.data.progress import progress_bar

    form = FORMS[inputs.to]
    (require_new_file if form.is_file else require_new_folder)(inputs.out)
    source = _source(inputs, settings.min_score)
    options = ExportOptions(**settings.model_dump(include=set(ExportOptions.__dataclass_fields__)))
    job = ExportJob(source.path, source.categories, source.records, inputs.images, options)
    with progress_bar(
        source.images(), total=len(job.records), desc="export", unit="image", quiet=inputs.quiet
    ) as images:
        fidelity, notes = write_form(form, inputs.out, job, images)
    left_out = {f"left_out_{reason}": count for reason, count in asdict(source.left_out).items()}
    figures = {
        "form": inputs.to,
        "images": len(job.records),
        **fidelity.to_dict(),
        **left_out,
        "written": str(inputs.out),
    }
    shown = {name: value for name, value in figures.items() if value != 0 or name in ("images", "objects")}
    title = f"{source.path} written as {inputs.to} to {inputs.out}"
    return Report(title, figures, notes=[*source.notes, *notes], shown=shown)


def _require_one(inputs: ExportInputs) -> None:
    if (inputs.labels is None) == (inputs.predictions is None):
        given = "both" if inputs.labels is not None else "neither"
        problem = "but one of them is exported"
        raise UserError("export", "--labels or --predictions", given, problem, "Give exactly one")


def _source(inputs: ExportInputs, min_score: float) -> "ExportSource":
    from sapnet_pipe.data.exports.source import read_labels, read_predictions

    if inputs.labels is not None:
        return read_labels(inputs.labels, inputs.images, min_score=min_score, keep_crowds=inputs.keep_crowds)
    predictions = inputs.predictions or Path()
    names = inputs.images_json or image_ids_beside(predictions)
    return read_predictions(predictions, names, inputs.images, min_score=min_score)
