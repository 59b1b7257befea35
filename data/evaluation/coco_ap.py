"""COCO average precision of predicted masks or boxes, through pycocotools."""

import contextlib
import io
from pathlib import Path
from typing import Any

from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from sapnet_pipe.data.boxes import xyxy_to_xywh
from sapnet_pipe.data.coco.instances import ImageRecord, InstanceAnnotation, InstanceDataset, counts_of, read_instances
from sapnet_pipe.data.coco.masks import rle_area, rle_box
from sapnet_pipe.data.evaluation.detections import IouType, checked_detections
from sapnet_pipe.data.evaluation.identity import Alignment, same_ids

NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")


def coco_ap(
    truth: Path | InstanceDataset,
    results: list[dict[str, Any]] | Path,
    iou_type: IouType = "segm",
    *,
    alignment: Alignment | None = None,
    source: Path | None = None,
) -> dict[str, float]:
    """COCO's twelve figures, in [0, 1]; -1, as COCO has it, where the truth has no object of that size.

    Args:
        truth: Instance file or what was read from it. Missing boxes and areas are taken from the masks.
        results: Predictions in COCO's results form, or the JSON file that holds them; none at all gives zeros.
        iou_type: ``segm`` compares masks, ``bbox`` boxes.
        alignment: What the ids of the results are in the truth; without it they are the truth's.
        source: What to blame for a malformed entry of a list.
    Raises: UserError for a truth without the masks that are needed, and for malformed predictions.
    """
    dataset = truth if isinstance(truth, InstanceDataset) else read_instances(truth)
    evaluation = _evaluated(alignment or same_ids(dataset), results, iou_type, source)
    return {name: float(value) for name, value in zip(NAMES, evaluation.stats, strict=True)}


def _evaluated(
    alignment: Alignment, results: list[dict[str, Any]] | Path, iou_type: IouType, source: Path | None
) -> COCOeval:
    dataset = alignment.truth
    detections = checked_detections(results, alignment, iou_type, source=source)
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
        evaluation = COCOeval(_indexed(dataset, _truth(dataset, iou_type)), None, iou_type)
        evaluation.cocoDt = _indexed(dataset, _detected(detections, dataset, iou_type))
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


def ap_by_category(
    truth: InstanceDataset,
    results: list[dict[str, Any]],
    iou_type: IouType = "segm",
    *,
    alignment: Alignment | None = None,
    source: Path | None = None,
) -> dict[str, dict[str, float]]:
    """By the name of each category of the truth: its ``AP``, and how many ``objects`` and ``predictions`` it has.

    The AP is COCO's first figure of that category alone (so their mean is that of `coco_ap`), -1 without an object.
    """
    evaluation = _evaluated(alignment or same_ids(truth), results, iou_type, source)
    precision = evaluation.eval["precision"][
        :, :, :, 0, -1
    ]  # thresholds, recalls, categories; all sizes, most per image
    figures = {}
    for place, category_id in enumerate(evaluation.params.catIds):
        found = precision[:, :, place]
        objects = evaluation.cocoGt.loadAnns(evaluation.cocoGt.getAnnIds(catIds=[category_id], iscrowd=0))
        figures[str(evaluation.cocoGt.cats[category_id]["name"])] = {
            "AP": float(found[found > -1].mean()) if (found > -1).any() else -1.0,
            "objects": len(objects),
            "predictions": len(evaluation.cocoDt.getAnnIds(catIds=[category_id])),
        }
    return figures


def _indexed(dataset: InstanceDataset, annotations: list[dict[str, Any]]) -> Any:
    coco = COCO()
    coco.dataset = {
        "images": [{"id": i.image_id, "height": i.height, "width": i.width} for i in dataset.images.values()],
        "categories": [{"id": c.category_id, "name": c.name} for c in dataset.categories],
        "annotations": annotations,
    }
    coco.createIndex()
    return coco


def _truth(dataset: InstanceDataset, iou_type: IouType) -> list[dict[str, Any]]:
    entries = []
    # Ids from 1: COCOeval takes the id 0 of a matched object for no match.
    for number, annotation in enumerate(dataset.annotations, 1):
        image = dataset.images[annotation.image_id]
        entry = {
            "id": number,
            "image_id": annotation.image_id,
            "category_id": annotation.category_id,
            "iscrowd": int(annotation.iscrowd),
        }
        entries.append(entry | _true_shape(dataset, annotation, image, iou_type))
    return entries


def _true_shape(
    dataset: InstanceDataset, annotation: InstanceAnnotation, image: ImageRecord, iou_type: IouType
) -> dict[str, Any]:
    box, area = annotation.bbox_xywh, annotation.area
    if iou_type == "bbox" and box is not None:
        return {"bbox": list(box), "area": box[2] * box[3] if area is None else area}
    counts = counts_of(annotation, image, file=dataset.source)
    return {
        "segmentation": {"size": [image.height, image.width], "counts": counts},
        "bbox": xyxy_to_xywh(rle_box(counts, image.height, image.width)).tolist() if box is None else list(box),
        "area": float(rle_area(counts, image.height, image.width)) if area is None else area,
    }


def _detected(detections: list[dict[str, Any]], dataset: InstanceDataset, iou_type: IouType) -> list[dict[str, Any]]:
    """Detections with what COCO's own loader adds: an id from 1, the area, and no crowds."""
    entries = []
    for number, detection in enumerate(detections, 1):
        if iou_type == "segm":
            image = dataset.images[detection["image_id"]]
            area = float(rle_area(detection["segmentation"]["counts"], image.height, image.width))
        else:
            area = detection["bbox"][2] * detection["bbox"][3]
        entries.append(detection | {"id": number, "area": area, "iscrowd": 0})
    return entries
