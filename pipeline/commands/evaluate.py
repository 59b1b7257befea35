"""`sapnet-pipe evaluate`: pseudo labels object by object, predictions by average precision or by clicks."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from sapnet_pipe.data.errors import UserError, one_line
from sapnet_pipe.pipeline.inputs import Inputs, LocalPath, OneCategory, PointsFormat
from sapnet_pipe.pipeline.outputs import require_new_folder
from sapnet_pipe.pipeline.report import Report, table
from sapnet_pipe.stages.flags import KeepCrowds
from sapnet_pipe.stages.training.run_files import image_ids_beside

if TYPE_CHECKING:
    from sapnet_pipe.data.coco.instances import InstanceDataset


class EvaluateInputs(Inputs, frozen=True, extra="forbid"):
    """What `evaluate` takes: one of `labels` and `predictions` beside `truth`, or `predictions` beside `points`."""

    truth: Path | None = Field(default=None, description="COCO instances with true masks.")
    labels: Path | None = Field(default=None, description="Pseudo labels: each is compared with its object.")
    predictions: Path | None = Field(
        default=None, description="COCO results: mask and box AP, or a verdict from clicks."
    )
    points: Path | None = Field(default=None, description="Held-out points of any tool, for a verdict without masks.")
    images: Path | None = Field(default=None, description="Folder of the photographs of these points.")
    points_format: PointsFormat = None
    category: OneCategory = None
    exhaustive: bool = Field(
        default=False,
        description="Every object of the photographs has a click, so that a prediction without one is wrong.",
    )
    out: LocalPath | None = Field(
        default=None, description="New folder for the tables and the plot of a verdict from clicks."
    )
    keep_crowds: KeepCrowds = False


def evaluate(inputs: EvaluateInputs) -> Report:
    """Measure one file against true masks, or against clicks."""
    truth, labels, predictions = inputs.truth, inputs.labels, inputs.predictions
    if (truth is None) == (inputs.points is None):
        given = "both" if truth is not None else "neither"
        raise UserError("evaluate", "--truth or --points", given, "but one of them measures", "Give exactly one")
    if inputs.points is not None:
        return _by_clicks(inputs, inputs.points)
    if (labels is None) == (predictions is None):
        given = "both" if labels is not None else "neither"
        raise UserError(
            "evaluate", "--labels or --predictions", given, "but one of them is measured", "Give exactly one"
        )
    from sapnet_pipe.data.coco.instances import read_truth

    dataset = read_truth(truth if truth is not None else Path(), keep_crowds=inputs.keep_crowds)
    if labels is not None:
        return _label_quality(labels, dataset, inputs.keep_crowds)
    return _average_precision(predictions if predictions is not None else Path(), dataset)


def _by_clicks(inputs: EvaluateInputs, clicks: Path) -> Report:
    from sapnet_pipe.data.coco.instances import InstanceDataset
    from sapnet_pipe.data.evaluation.click_verdict import click_verdict
    from sapnet_pipe.data.evaluation.detections import align_results, checked_detections, read_results
    from sapnet_pipe.data.points.reader import read_line, read_points
    from sapnet_pipe.pipeline.verdict import verdict_report, write_verdict

    if inputs.predictions is None or inputs.labels is not None:
        raise UserError(
            "evaluate", "--predictions", str(inputs.predictions), "but clicks judge predictions", "Give --predictions"
        )
    if inputs.out is not None:
        require_new_folder(inputs.out)
    points = read_points(clicks, inputs.images, form=inputs.points_format, category=inputs.category)
    entries, names = read_results(inputs.predictions), image_ids_beside(inputs.predictions)
    known = InstanceDataset(clicks, points.images, points.categories, ())
    alignment = align_results(entries, inputs.predictions, names if names.is_file() else None, known)
    detections = checked_detections(entries, alignment, "segm", source=inputs.predictions)
    verdict = click_verdict(points, detections, exhaustive=inputs.exhaustive, quiet=inputs.quiet)
    notes = [read_line(points), *points.notes, *alignment.notes]
    if inputs.out is not None:
        write_verdict(inputs.out, verdict, points)
    return verdict_report(f"{inputs.predictions} against the clicks of {clicks}", verdict, notes, inputs.out)


def _label_quality(labels: Path, truth: "InstanceDataset", keep_crowds: bool) -> Report:
    from sapnet_pipe.data.coco.instances import read_instances
    from sapnet_pipe.data.evaluation.mask_quality import mask_quality
    from sapnet_pipe.data.evaluation.objects import match_labels

    measured = read_instances(labels, keep_crowds=keep_crowds)
    masks, match = match_labels(measured, truth)
    return Report(
        f"{labels} against {truth.source}",
        mask_quality(masks, match, source=labels).to_dict(),
        notes=[*measured.notes, *truth.notes, *match.notes],
    )


def _average_precision(predictions: Path, truth: "InstanceDataset") -> Report:
    from sapnet_pipe.data.evaluation.coco_ap import ap_by_category, coco_ap
    from sapnet_pipe.data.evaluation.detections import align_results, read_results

    entries, names = read_results(predictions), image_ids_beside(predictions)
    alignment = align_results(entries, predictions, names if names.is_file() else None, truth)
    common: dict[str, Any] = {"alignment": alignment, "source": predictions}
    figures: dict[str, Any] = {
        "segm": coco_ap(truth, entries, "segm", **common),
        "bbox": coco_ap(truth, entries, "bbox", **common),
        "by_category": ap_by_category(truth, entries, "segm", **common),
        "images_matched_by": "file_name" if alignment.by_name else "id",
        "images": len(set(alignment.image_ids.values())),
    }
    notes = [*truth.notes, *alignment.notes]
    if entries and figures["segm"]["AP50"] == 0:
        notes.append("no prediction covers half of a true object of its photograph and category.")
    return Report(
        f"{predictions} against {truth.source}",
        figures,
        notes=notes,
        shown=figures | {"by_category": None},
        more=_table(figures),
    )


def _table(figures: dict[str, Any]) -> str:
    rows = [
        (
            one_line(name),
            f"{found['AP']:.3f}" if found["AP"] >= 0 else "-",
            str(found["objects"]),
            str(found["predictions"]),
        )
        for name, found in figures["by_category"].items()
        if found["objects"] or found["predictions"]
    ]
    return table(("category (mask AP)", "AP", "objects", "predictions"), rows)
