"""The demo's pictures: what SAM offers, what the selector takes, what is true, and what the model predicts."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from sapnet_pipe.data.bag_store.store import BagStore
from sapnet_pipe.data.coco.instances import ImageRecord, read_instances
from sapnet_pipe.data.files import read_json
from sapnet_pipe.data.images import read_image
from sapnet_pipe.pipeline.pictures.draw import Panel, draw_strip, write_picture
from sapnet_pipe.pipeline.pictures.strips import Masks, StoreView, choice_panels, masks_by_image
from sapnet_pipe.stages.training.run_files import PSEUDO_LABELS, TEST_PREDICTIONS

_MIN_SCORE = 0.3


def draw_training_pictures(out: Path, predictions: Path, count: int) -> None:
    """Points, SAM top-1, SAPNet's choice, truth and predictions of the first `count` training scenes."""
    truth = read_instances(out / "train" / "instances.json")
    chosen = masks_by_image(read_instances(out / "sapnet" / PSEUDO_LABELS))
    true_masks, found = masks_by_image(truth), _detections(predictions)
    bags = StoreView(BagStore.open(out / "bags"))
    for image_id in list(truth.images)[:count]:
        image = truth.images[image_id]
        panels = [
            *choice_panels(bags, image, chosen, "SAPNet's choice"),
            Panel("truth", true_masks.get(image_id, {}), {}),
            Panel("SOLOv2 prediction", found.get(image_id, {}), {}),
        ]
        _draw(out / "pictures" / f"train_{image.file_name}", out / "train" / "images", image, panels)


def draw_test_pictures(out: Path, count: int) -> None:
    """Truth and predictions of the first `count` test scenes, by every model that was trained."""
    truth = read_instances(out / "test" / "instances.json")
    true_masks = masks_by_image(truth)
    from_pseudo = _detections(out / "solov2-pseudo" / TEST_PREDICTIONS)
    yardstick = out / "solov2-true" / TEST_PREDICTIONS
    from_true = _detections(yardstick) if yardstick.is_file() else None
    for image_id in list(truth.images)[:count]:
        image = truth.images[image_id]
        panels = [
            Panel("photograph", {}, {}),
            Panel("truth", true_masks.get(image_id, {}), {}),
            Panel("trained on pseudo labels", from_pseudo.get(image_id, {}), {}),
        ]
        if from_true is not None:
            panels.append(Panel("trained on true masks", from_true.get(image_id, {}), {}))
        _draw(out / "pictures" / f"test_{image.file_name}", out / "test" / "images", image, panels)


def _draw(path: Path, images_dir: Path, image: ImageRecord, panels: Iterable[Panel]) -> None:
    pixels = read_image(images_dir / image.file_name, image.height, image.width, file=images_dir, field="file_name")
    write_picture(path, draw_strip(pixels, list(panels)))


def _detections(predictions: Path) -> dict[int, Masks]:
    """Masks of the detections that score at least 0.3, numbered within the image."""
    found: dict[int, Masks] = {}
    entries: list[Mapping[str, Any]] = read_json(predictions)
    for entry in entries:
        if entry["score"] >= _MIN_SCORE:
            masks = found.setdefault(entry["image_id"], {})
            masks[len(masks) + 1] = entry["segmentation"]["counts"].encode("ascii")
    return found
