"""`sapnet-pipe evaluate`: pseudo labels by id, predictions by average precision."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sapnet_pipe.data.coco.instances import InstanceDataset, counts_of, read_instances
from sapnet_pipe.data.errors import UserError
from sapnet_pipe.data.evaluation.coco_ap import coco_ap
from sapnet_pipe.data.evaluation.mask_quality import mask_quality
from sapnet_pipe.pipeline.command_settings import PlainSettings
from sapnet_pipe.pipeline.report import Report
from sapnet_pipe.pipeline.settings import resolve_settings


def evaluate(
    truth: Path,
    *,
    labels: Path | None,
    predictions: Path | None,
    device: str | None = None,
    seed: int | None = None,
    file: Path | None = None,
    assign: Sequence[str] = (),
) -> Report:
    """Measure one file against true masks."""
    resolve_settings(PlainSettings, file=file, assignments=assign, flags={"device": device, "seed": seed})
    if (labels is None) == (predictions is None):
        given = "both" if labels is not None else "neither"
        raise UserError(
            "evaluate", "--labels or --predictions", given, "but one of them is measured", "Give exactly one"
        )
    dataset = read_instances(truth)
    if labels is not None:
        return Report(f"{labels} against {truth}", _label_quality(labels, dataset))
    results = predictions if predictions is not None else Path()
    figures = {"segm": coco_ap(dataset, results, "segm"), "bbox": coco_ap(dataset, results, "bbox")}
    return Report(f"{predictions} against {truth}", figures)


def _label_quality(labels: Path, truth: InstanceDataset) -> dict[str, Any]:
    chosen = read_instances(labels)
    masks = {
        annotation.annotation_id: counts_of(annotation, chosen.images[annotation.image_id], file=labels)
        for annotation in chosen.annotations
    }
    return mask_quality(masks, truth, source=labels).to_dict()
