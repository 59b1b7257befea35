"""Predictions in COCO's results form: a list of {image_id, category_id, score, segmentation | bbox}."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from sapnet_pipe.data.coco.document import is_number, read_head, read_images
from sapnet_pipe.data.coco.instances import InstanceDataset
from sapnet_pipe.data.coco.segmentations import segmentation_to_counts
from sapnet_pipe.data.errors import FaultReport, UserError
from sapnet_pipe.data.evaluation.identity import Alignment, align, same_ids
from sapnet_pipe.data.files import read_json

IouType = Literal["segm", "bbox"]


def read_results(path: Path) -> list[Any]:
    """The entries of a results file, unchecked; UserError if it holds no list."""
    entries: Any = read_json(path)
    if not isinstance(entries, list):
        problem = "which is not a list of predictions"
        hint = "Give a list of {image_id, category_id, score, segmentation}"
        raise UserError(path, "content", type(entries).__name__, problem, hint)
    return entries


def align_results(entries: list[Any], source: Path, names: Path | None, truth: InstanceDataset) -> Alignment:
    """What the ids of results are in the truth.

    Args:
        names: COCO file that gives the names of their images and categories, as `predict` writes it beside its results;
            None: the ids are taken for the truth's.
    Raises: UserError as `data.evaluation.identity.align`, and for malformed names.
    """
    if names is None:
        alignment = same_ids(truth)
        return replace(alignment, notes=_doubts(entries, source, truth))
    root = read_json(names)
    if not isinstance(root, dict):
        raise UserError(names, "content", type(root).__name__, "which is not a COCO object", "Give a COCO JSON file")
    report = FaultReport(names)
    if not root.get("categories"):
        images, categories = read_images(root, report), truth.categories
    else:
        images, categories = read_head(root, report)
    used = {entry.get("category_id") for entry in entries if isinstance(entry, dict)}
    found = [category for category in categories if category.category_id in used]
    return align(images.values(), found, truth, source=names)


def _doubts(entries: list[Any], source: Path, truth: InstanceDataset) -> tuple[str, ...]:
    """A note where the ids may be those that `predict` gives a folder, which are others in the truth."""
    names = sorted(image.file_name for image in truth.images.values())
    numbers = dict(enumerate(names, 1))
    ids = {entry.get("image_id") for entry in entries if isinstance(entry, dict)}
    moved = [key for key, image in truth.images.items() if numbers.get(key, image.file_name) != image.file_name]
    if not entries or not moved or not ids <= numbers.keys():
        return ()
    return (
        f"image ids are taken for those of {truth.source}: if {source.name} numbers a folder's photographs by name, as "
        f"predict does, put its {source.stem}.images.json beside it.",
    )


def checked_detections(
    results: list[dict[str, Any]] | Path, alignment: Alignment, iou_type: IouType, *, source: Path | None = None
) -> list[dict[str, Any]]:
    """Results in the truth's ids with only the keys that COCO's evaluation needs, every value checked.

    What is matched by name and has no counterpart in the truth is left out. Where two ids are one photograph, what was
    found the same under both counts once.

    Args:
        results: The list itself, or the JSON file that holds it.
        source: What to blame for an entry of a list.
    Returns: New dicts; `segmentation` is a compressed RLE with bytes.
    Raises: UserError naming the entry, for example ``results[3].image_id``.
    """
    source = results if isinstance(results, Path) else source or Path("results")
    entries = read_results(results) if isinstance(results, Path) else results
    id_of: dict[Any, int] = {}
    kept = []
    for index, entry in enumerate(entries):
        checked = _checked(source, index, entry, alignment, iou_type)
        if checked is None:
            continue
        key = tuple(map(str, checked.values()))
        if id_of.setdefault(key, entry["image_id"]) == entry["image_id"]:
            kept.append(checked)
    return kept


def _checked(source: Path, index: int, entry: Any, alignment: Alignment, iou_type: IouType) -> dict[str, Any] | None:
    """One entry; None if it is of a photograph or category that the truth does not have under any number."""
    where = f"results[{index}]"
    if not isinstance(entry, dict):
        raise UserError(source, where, entry, "which is not an object", "Give {image_id, category_id, score, ...}")
    image_id: Any = entry.get("image_id")
    category_id: Any = entry.get("category_id")
    score = entry.get("score")
    ids = alignment.image_ids, alignment.category_ids
    unknown_image = type(image_id) is not int or image_id not in ids[0]
    if unknown_image and (type(image_id) is not int or image_id not in alignment.strange_images):
        hint = (
            "Predict on the images of the truth file, or keep the .images.json that predict writes beside its results"
        )
        raise UserError(source, f"{where}.image_id", image_id, "which is not an image of the truth", hint)
    unknown_category = type(category_id) is not int or category_id not in ids[1]
    if unknown_category and (type(category_id) is not int or category_id not in alignment.strange_categories):
        hint = "Use the category ids of the truth file"
        raise UserError(source, f"{where}.category_id", category_id, "which is not a category of the truth", hint)
    if not is_number(score):
        raise UserError(
            source, f"{where}.score", score, "which is not a finite number", "Give every prediction a score"
        )
    if unknown_image or unknown_category:
        return None
    image = alignment.truth.images[ids[0][image_id]]
    kept = {"image_id": image.image_id, "category_id": ids[1][category_id], "score": float(entry["score"])}
    if iou_type == "segm":
        field, segmentation = f"{where}.segmentation", entry.get("segmentation")
        size = segmentation.get("size") if isinstance(segmentation, dict) else None
        if size is not None and size != [image.height, image.width] and not alignment.by_name:
            problem = (
                f"but image {image_id} of the truth ({image.file_name}) is {image.width} wide and {image.height} high"
            )
            hint = f"If the ids are not the truth's, put the file that names them, {source.stem}.images.json, beside it"
            raise UserError(source, f"{field}.size", size, problem, hint)
        counts = segmentation_to_counts(segmentation, image.height, image.width, file=source, field=field)
        return kept | {"segmentation": {"size": [image.height, image.width], "counts": counts}}
    return kept | {"bbox": _bbox(source, f"{where}.bbox", entry.get("bbox"))}


def _bbox(source: Path, field: str, bbox: Any) -> list[float]:
    if not isinstance(bbox, list) or len(bbox) != 4 or not all(map(is_number, bbox)) or bbox[2] < 0 or bbox[3] < 0:
        raise UserError(source, field, bbox, "which is not [x, y, width, height] in pixels", "Give four finite numbers")
    return [float(value) for value in bbox]
