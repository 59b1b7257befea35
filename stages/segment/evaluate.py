"""COCO AP of a segmenter on photographs with true masks."""

from pathlib import Path

import torch

from sapnet_pipe.data.coco.instances import Category, InstanceDataset, read_instances
from sapnet_pipe.data.errors import UserError
from sapnet_pipe.data.evaluation.coco_ap import coco_ap
from sapnet_pipe.stages.segment.results import coco_results
from sapnet_pipe.stages.segment.solov2.model import SOLOv2
from sapnet_pipe.stages.segment.weights.model_file import ModelDescription


def read_truth(path: Path, categories: tuple[Category, ...]) -> InstanceDataset:
    """Read validation labels; they must know every category of the training.

    Raises: UserError as `read_instances`, and if a category is missing or has another name.
    """
    truth = read_instances(path)
    names = {category.category_id: category.name for category in truth.categories}
    for category in categories:
        found = names.get(category.category_id)
        if found != category.name:
            problem = f"but the training labels call category {category.category_id} {category.name!r}"
            hint = "Give validation labels with the same categories"
            raise UserError(path, f"categories, id {category.category_id}", found, problem, hint)
    return truth


def evaluate_model(
    model: SOLOv2,
    description: ModelDescription,
    truth: InstanceDataset,
    images_dir: Path,
    *,
    device: torch.device,
    quiet: bool,
) -> dict[str, dict[str, float]]:
    """COCO's figures on all images of `truth`: ``{"segm": {"AP": ...}, "bbox": {...}}``."""
    records = list(truth.images.values())
    results = list(
        coco_results(
            model,
            records,
            images_dir,
            source=truth.source,
            categories=description.categories,
            test=description.test,
            device=device,
            quiet=quiet,
        )
    )
    return {"segm": coco_ap(truth, results, "segm"), "bbox": coco_ap(truth, results, "bbox")}
