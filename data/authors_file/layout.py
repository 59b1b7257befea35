"""The layout of the SAPNet authors' file of SAM masks, ``SAM_results_with_point_prompt_coco.json``.

It is a COCO file whose every annotation holds its click (any form that `data.points.reader` reads) and three lists,
which their loader reads under these names:

    segmentation   the masks, usually six (polygons, uncompressed or compressed RLE): SAM's three of the click, then the
                   others, of which the authors do not say how they were made
    bbox           as many boxes, XYWH; only compared, since ours are those of the masks
    scores         SAM's predicted IoU of the first masks, usually of three

`true_bbox` is the object's box, around the click. Files with other names for the lists are read as well, for instance
those that this tool wrote earlier: they are found by their contents in the first annotation that has them, or given.
What we write has in `sapnet_pipe` what the layout has no place for.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sapnet_pipe.data.coco.document import is_number
from sapnet_pipe.data.coco.segmentations import segmentation_problem
from sapnet_pipe.data.errors import UserError

MASKS, BOXES, SCORES, OURS = "segmentation", "bbox", "scores", "sapnet_pipe"
MASKS_PER_POINT, SCORES_PER_POINT = 6, 3
_COCO_KEYS = {
    *("id", "image_id", "category_id", "iscrowd", "area", "true_bbox", "point", "point_coords"),
    *("point_labels", "keypoints", "num_keypoints", "score", "ignore", OURS),
}


@dataclass(frozen=True, slots=True)
class Layout:
    """The keys of the three lists; None where it is not known, or the file has none."""

    masks: str | None
    boxes: str | None
    scores: str | None


def find_layout(entry: Mapping[str, Any], masks: str | None = None) -> Layout:
    """The keys under which an annotation holds masks, boxes and scores, by what stands there; None for what it lacks.

    Args:
        masks: The key of the masks where it is known.
    """
    lists = {key: value for key, value in entry.items() if key not in _COCO_KEYS and type(value) is list and value}
    masks = masks or next((key for key, value in lists.items() if _are_masks(value)), None)
    count = len(lists.get(masks or "", ()))
    boxes = next((key for key, value in lists.items() if len(value) == count and all(map(is_box, value))), None)
    scores = next((key for key, value in lists.items() if key != BOXES and _are_scores(value, count)), None)
    return Layout(masks, boxes, scores)


def is_box(value: Any) -> bool:
    """Whether a JSON value is four finite numbers."""
    return type(value) is list and len(value) == 4 and all(map(is_number, value))


def require_layout(path: Path, index: int, entry: Mapping[str, Any], masks: str | None) -> Layout:
    """`find_layout` of an annotation that must have masks. Raises: UserError if it has none."""
    layout = find_layout(entry, masks)
    if layout.masks is None:
        keys = ", ".join(sorted(entry)[:12])
        problem = f"without a list of masks under any name (it has {keys})"
        hint = "Give the file of SAM's masks, or name the list with --set masks_key=NAME"
        raise UserError(path, f"annotations[{index}]", f"id {entry.get('id')}", problem, hint)
    return layout


def _are_scores(values: list[Any], count: int) -> bool:
    return len(values) <= count and all(map(is_number, values))


def _are_masks(values: list[Any]) -> bool:
    """Whether a list's entries are segmentations, of which some may be empty."""
    filled = [value for value in values if value]
    if not filled or not all(type(value) in (dict, list) for value in filled):
        return False
    return all(segmentation_problem(value) is None for value in filled)
