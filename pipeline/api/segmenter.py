"""A trained segmenter in a Python program: the instances of one image in memory."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from sapnet_pipe.pipeline.api.arrays import checked_image
from sapnet_pipe.pipeline.commands.predict import PredictSettings, require_model
from sapnet_pipe.pipeline.settings import resolve_settings
from sapnet_pipe.stages.segment.predict import changed_test
from sapnet_pipe.stages.segment.results import find_in_images, to_predict
from sapnet_pipe.stages.segment.solov2.model import SOLOv2
from sapnet_pipe.stages.segment.weights.model_file import ModelDescription
from sapnet_pipe.stages.segment.weights.model_file import load_model as read_model
from sapnet_pipe.stages.training.devices import limit_threads, pick_device
from sapnet_pipe.stages.training.run_files import MODEL


@dataclass(frozen=True, eq=False)
class Instances:
    """N objects found on one image (H, W), by falling score.

    Attributes:
        masks: (N, H, W) bool.
        boxes_xyxy: (N, 4) float32 around the masks, in pixels of the image, right and bottom exclusive.
        scores: (N,) float32 from 0 to 1.
        category_ids: (N,) int64, as in the labels that the model was trained on.
        names: The N names of these categories.
    """

    masks: NDArray[np.bool_]
    boxes_xyxy: NDArray[np.float32]
    scores: NDArray[np.float32]
    category_ids: NDArray[np.int64]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.scores)


class Segmenter:
    """A trained model; `load_model` makes one.

    Attributes:
        categories: category_id -> name.
    """

    def __init__(self, model: SOLOv2, description: ModelDescription, score_threshold: float) -> None:
        """Args: model: On its device, in eval mode."""
        self._model, self._description, self._least = model, description, score_threshold
        self.categories = {category.category_id: category.name for category in description.categories}

    def predict(self, image: NDArray[np.uint8]) -> Instances:
        """Find the objects on one image: those that the command `predict` writes for it.

        Args:
            image: (H, W, 3) uint8 RGB.
        Raises: UserError for another shape or type of array.
        """
        pixels = checked_image(image)
        (found,) = (list(parts) for parts in find_in_images(self._model, [pixels], self._description.test))
        scores = np.concatenate([np.zeros(0, np.float32), *(part.scores for part in found)])
        classes = np.concatenate([np.zeros(0, np.int64), *(part.classes for part in found)])
        masks = np.concatenate([np.zeros((0, *pixels.shape[:2]), bool), *(part.masks for part in found)])
        boxes = np.concatenate([np.zeros((0, 4), np.float32), *(part.box_xyxy for part in found)])
        kept = (boxes[:, 2] > 0) & (scores >= self._least)  # a mask may have vanished at the image's size
        chosen = [self._description.categories[index] for index in classes[kept]]
        return Instances(
            masks=masks[kept],
            boxes_xyxy=boxes[kept],
            scores=scores[kept],
            category_ids=np.array([category.category_id for category in chosen], np.int64),
            names=tuple(category.name for category in chosen),
        )


def load_model(
    run: str | Path, *, device: str = "auto", score_threshold: float | None = None, max_per_image: int | None = None
) -> Segmenter:
    """Load the model that `train_segmenter` or `sapnet-pipe train-seg` wrote, by either engine.

    Args:
        run: Its run folder, or the model_final.pth in it.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        score_threshold: Score that an instance needs. max_per_image: Instances of one image. As trained if not given.
    Raises: UserError for a folder without a finished model, a damaged file, or a setting or device at fault.
    """
    given = {"device": device, "score_threshold": score_threshold, "max_per_image": max_per_image}
    settings = resolve_settings(PredictSettings, values=given)
    path = Path(run)
    require_model(path)
    limit_threads()
    target: torch.device = pick_device(settings.device)
    model, description = read_model(path / MODEL if path.is_dir() else path)
    to_predict(model, target)
    test = changed_test(description.test, settings.max_per_image)
    return Segmenter(model, description.model_copy(update={"test": test}), settings.score_threshold or 0.0)
