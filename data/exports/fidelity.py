"""What is lost when masks are written in a form that cannot hold all of them."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from sapnet_pipe.data.coco.masks import Mask


def mask_iou(a: Mask, b: Mask) -> float:
    """Intersection over union of two masks (h, w) bool; 0 if both are empty."""
    union = int(np.count_nonzero(a | b))
    return int(np.count_nonzero(a & b)) / union if union else 0.0


@dataclass
class Fidelity:
    """Counts and overlaps over the objects that were written.

    Attributes:
        worst: The lowest IoU of a written shape with its mask, as the form's reader fills it; and whose it is.
        holes_filled, holes_bridged: Holes that are gone, or joined to the outline by a line of no width.
        parts_joined: Objects whose parts were joined into one outline.
        parts_split: Objects whose parts became objects of their own.
        hidden: Objects of which nothing is left, as others cover them.
    """

    objects: int = 0
    iou_sum: float = 0.0
    worst: float = 1.0
    worst_object: int | None = None
    worst_image: str | None = None
    holes_filled: int = 0
    holes_bridged: int = 0
    parts_joined: int = 0
    parts_split: int = 0
    hidden: int = 0
    scores_dropped: int = 0
    alternates_dropped: int = 0

    def add(self, object_id: int, file_name: str, iou: float = 1.0) -> None:
        """Count an object whose written shape has this IoU with its mask."""
        self.objects += 1
        self.iou_sum += iou
        if iou < self.worst:
            self.worst, self.worst_object, self.worst_image = iou, object_id, file_name

    def to_dict(self) -> dict[str, Any]:
        """For people and programs; without objects there is no IoU."""
        return {
            "objects": self.objects,
            "iou_mean": round(self.iou_sum / self.objects, 6) if self.objects else None,
            "iou_worst": round(self.worst, 6) if self.objects else None,
            "iou_worst_object": self.worst_object,
            "iou_worst_image": self.worst_image,
            "holes_filled": self.holes_filled,
            "holes_bridged": self.holes_bridged,
            "parts_joined": self.parts_joined,
            "parts_split": self.parts_split,
            "objects_hidden": self.hidden,
            "scores_dropped": self.scores_dropped,
            "alternates_dropped": self.alternates_dropped,
        }
