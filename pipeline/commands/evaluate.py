"""`sapnet-pipe evaluate`: pseudo labels by id, predictions by average precision."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from sapnet_pipe.data.errors import UserError
from sapnet_pipe.pipeline.inputs import Inputs
from sapnet_pipe.pipeline.report import Report

if TYPE_CHECKING:
    from sapnet_pipe.data.coco.instances import InstanceDataset


class EvaluateInputs(Inputs, frozen=True, extra="forbid"):
    """What `evaluate` takes: exactly one of `labels` and `predictions`."""

    truth: Path = Field(description="COCO instances with true masks.")
    labels: Path | None = Field(default=None, description="Pseudo labels: their masks are compared by id.")
    predictions: Path | None = Field(default=None, description="COCO results: mask and box AP.")


def evaluate(inputs: EvaluateInputs) -> Report:
    """Measure one file against true masks."""
    truth, labels, predictions = inputs.truth, inputs.labels, inputs.predictions
    if (labels is None) == (predictions is None):
        given = "both" if labels is not None else "neither"
        raise UserError(
            "evaluate", "--labels or --predictions", given, "but one of them is measured", "Give exactly one"
        )
    from sapnet_pipe.data.coco.instances import read_instances
    from sapnet_pipe.data.evaluation.coco_ap import coco_ap

    dataset = read_instances(truth)
    if labels is not None:
        return Report(f"{labels} against {truth}", _label_quality(labels, dataset))
    results = predictions if predictions is not None else Path()
    figures = {"segm": coco_ap(dataset, results, "segm"), "bbox": coco_ap(dataset, results, "bbox")}
    return Report(f"{predictions} against {truth}", figures)


def _label_quality(labels: Path, truth: "InstanceDataset") -> dict[str, Any]:
    from sapnet_pipe.data.coco.instances import counts_of, read_instances
    from sapnet_pipe.data.evaluation.mask_quality import mask_quality

    chosen = read_instances(labels)
    masks = {
        annotation.annotation_id: counts_of(annotation, chosen.images[annotation.image_id], file=labels)
        for annotation in chosen.annotations
    }
    return mask_quality(masks, truth, source=labels).to_dict()
