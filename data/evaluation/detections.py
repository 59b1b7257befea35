"""Predictions in COCO's results form: a list of {image_id, category_id, score, segmentation | bbox}."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from sapnet_pipe.data.coco.document import is_number
from sapnet_pipe.data.coco.instances import ImageRecord, InstanceDataset
from sapnet_pipe.data.coco.segmentations import segmentation_to_counts
from sapnet_pipe.data.errors import UserError
from sapnet_pipe.data.files import read_json

IouType = Literal["segm", "bbox"]


def checked_detections(
    results: list[dict[str, Any]] | Path, truth: InstanceDataset, iou_type: IouType
) -> list[dict[str, Any]]:
    """Results with only the keys that COCO's evaluation needs, every value checked.

    Args:
        results: The list itself, or the JSON file that holds it.
    Returns: New dicts; `segmentation` is a compressed RLE with bytes.
    Raises: UserError naming the entry, for example ``results[3].image_id``.
    """
    source = results if isinstance(results, Path) else Path("results")
    entries: Any = read_json(results) if isinstance(results, Path) else results
    if not isinstance(entries, list):
        problem = "which is not a list of predictions"
        hint = "Give a list of {image_id, category_id, score, segmentation}"
        raise UserError(source, "content", type(entries).__name__, problem, hint)
    categories = {category.category_id for category in truth.categories}
    return [_checked(source, index, entry, truth.images, categories, iou_type) for index, entry in enumerate(entries)]


def _checked(
    source: Path,
    index: int,
    entry: Any,
    images: Mapping[int, ImageRecord],
    categories: set[int],
    iou_type: IouType,
) -> dict[str, Any]:
    where = f"results[{index}]"
    if not isinstance(entry, dict):
        raise UserError(source, where, entry, "which is not an object", "Give {image_id, category_id, score, ...}")
    image_id, category_id, score = entry.get("image_id"), entry.get("category_id"), entry.get("score")
    if type(image_id) is not int or image_id not in images:
        hint = "Predict on the images of the truth file"
        raise UserError(source, f"{where}.image_id", image_id, "which is not an image of the truth", hint)
    if type(category_id) is not int or category_id not in categories:
        hint = "Use the category ids of the truth file"
        raise UserError(source, f"{where}.category_id", category_id, "which is not a category of the truth", hint)
    if not is_number(score):
        raise UserError(
            source, f"{where}.score", score, "which is not a finite number", "Give every prediction a score"
        )
    kept = {"image_id": image_id, "category_id": category_id, "score": float(entry["score"])}
    image = images[image_id]
    if iou_type == "segm":
        field = f"{where}.segmentation"
        counts = segmentation_to_counts(entry.get("segmentation"), image.height, image.width, file=source, field=field)
        return kept | {"segmentation": {"size": [image.height, image.width], "counts": counts}}
    return kept | {"bbox": _bbox(source, f"{where}.bbox", entry.get("bbox"))}


def _bbox(source: Path, field: str, bbox: Any) -> list[float]:
    if not isinstance(bbox, list) or len(bbox) != 4 or not all(map(is_number, bbox)) or bbox[2] < 0 or bbox[3] < 0:
        raise UserError(source, field, bbox, "which is not [x, y, width, height] in pixels", "Give four finite numbers")
    return [float(value) for value in bbox]
