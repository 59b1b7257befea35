"""`sapnet-pipe count`: how many objects, and how large, of every class in every photograph."""

from collections import Counter, defaultdict
from pathlib import Path

from pydantic import Field

from sapnet_pipe.data.errors import FaultReport, UserError
from sapnet_pipe.pipeline.inputs import Inputs, OutFile
from sapnet_pipe.pipeline.outputs import require_new_file
from sapnet_pipe.pipeline.report import Report
from sapnet_pipe.stages.training.run_files import image_ids_beside


class CountInputs(Inputs, frozen=True, extra="forbid"):
    """What `count` takes."""

    predictions: Path = Field(description="COCO results of `predict`, with their .images.json beside them.")
    out: OutFile
    threshold: float = Field(default=0.5, description="Lowest score that counts; `evaluate --points` finds the best.")


def count(inputs: CountInputs) -> Report:
    """Write a CSV of the number and the area of the objects, a line per photograph and class, zeros included."""
    from sapnet_pipe.data.coco.document import read_head
    from sapnet_pipe.data.coco.instances import InstanceDataset
    from sapnet_pipe.data.coco.masks import rle_area
    from sapnet_pipe.data.evaluation.detections import align_results, checked_detections, read_results
    from sapnet_pipe.data.files import read_json
    from sapnet_pipe.pipeline.verdict import write_table

    require_new_file(inputs.out)
    names = image_ids_beside(inputs.predictions)
    if not names.is_file():
        problem, hint = "which names the photographs of the predictions", "Put the one that predict wrote there"
        raise UserError(inputs.predictions, "file", names.name, f"is missing, {problem}", hint)
    entries, root = read_results(inputs.predictions), read_json(names)
    if not isinstance(root, dict):
        raise UserError(names, "content", type(root).__name__, "which is not a COCO object", "Give a COCO JSON file")
    images, categories = read_head(root, FaultReport(names))
    known = InstanceDataset(names, images, categories, ())
    alignment = align_results(entries, inputs.predictions, names, known)
    kept = checked_detections(entries, alignment, "segm", source=inputs.predictions)
    areas = defaultdict[tuple[int, int], list[int]](list)
    for one in kept:
        if one["score"] >= inputs.threshold:
            area = rle_area(one["segmentation"]["counts"], *one["segmentation"]["size"])
            areas[one["image_id"], one["category_id"]].append(area)
    rows = [
        (image.file_name, category.name, len(found), sum(found), round(sum(found) / (image.height * image.width), 6))
        for image in alignment.truth.images.values()
        for category in categories
        for found in [areas[image.image_id, category.category_id]]
    ]
    write_table(inputs.out, ("image", "class", "count", "area_pixels", "area_share"), rows)
    by_class = Counter[str]()
    for _, name, number, *_ in rows:
        by_class[name] += number
    counted = by_class.total()
    result = {
        "counted": counted,
        "below_threshold": len(kept) - counted,
        "threshold": inputs.threshold,
        "images": len(alignment.truth.images),
        "by_class": {category.name: by_class[category.name] for category in categories},
        "written": str(inputs.out),
    }
    return Report(f"{counted} objects counted in {inputs.out}", result, notes=alignment.notes)
