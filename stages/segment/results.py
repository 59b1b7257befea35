"""Predictions of many photographs in COCO's results form, one photograph after the other in flat memory."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from sapnet_pipe.data.boxes import xyxy_to_xywh
from sapnet_pipe.data.coco.instances import Category, ImageRecord
from sapnet_pipe.data.coco.masks import encode_masks
from sapnet_pipe.data.errors import UserError
from sapnet_pipe.data.pixel_depth import AUTO, Depth
from sapnet_pipe.data.progress import progress_bar
from sapnet_pipe.stages.segment.config import InferenceConfig
from sapnet_pipe.stages.segment.labels import read_record
from sapnet_pipe.stages.segment.solov2.inference import (
    Candidates,
    Decoding,
    boxes_of_masks,
    find_candidates,
    full_masks,
)
from sapnet_pipe.stages.segment.solov2.model import SOLOv2
from sapnet_pipe.stages.training.image_batch import ImageTransform, batch_images, resize_transform

_PIXELS_AT_ONCE = 1 << 24


def coco_results(
    model: SOLOv2,
    records: Sequence[ImageRecord],
    images_dir: Path,
    *,
    source: Path,
    categories: Sequence[Category],
    test: InferenceConfig,
    device: torch.device,
    quiet: bool,
    depth: Depth = AUTO,
    dropped: Counter[str] | None = None,
    unreadable: Callable[[ImageRecord, UserError], None] | None = None,
) -> Iterator[dict[str, Any]]:
    """Segment photographs; the network is left in eval mode on `device`.

    Args:
        source: The file to blame for a photograph that cannot be read.
        categories: In the order of the class indices.
        depth: How more than 8 bits a channel become 8.
        dropped: Counts what is left out: masks that vanish at the photograph's size.
        unreadable: Is told of a photograph that cannot be read, which is passed over; None: it is raised.
    Yields: ``{image_id, category_id, segmentation, bbox, score}``; by image, then falling score.
    Raises: UserError for a photograph that cannot be read.
    """
    to_predict(model, device)
    with progress_bar(total=len(records), desc="predicting", unit="image", quiet=quiet) as bar:
        for start in range(0, len(records), test.batch_size):
            chunk = records[start : start + test.batch_size]
            pixels: dict[ImageRecord, NDArray[np.uint8]] = {}
            for record in chunk:
                try:
                    pixels[record] = read_record(record, images_dir, source, depth)
                except UserError as error:
                    if unreadable is None:
                        raise
                    unreadable(record, error)
            found = find_in_images(model, list(pixels.values()), test) if pixels else ()
            for record, instances in zip(pixels, found, strict=True):
                yield from _entries(record, instances, categories, dropped)
            bar.update(len(chunk))


class Found(NamedTuple):
    """n instances of one photograph (H, W), by falling score.

    Attributes:
        scores: (n,) float32. classes: (n,) int64 class indices.
        masks: (n, H, W) bool; all False where a mask vanished at the photograph's size.
        box_xyxy: (n, 4) float32 in original pixels, right and bottom exclusive; zeros around an empty mask.
    """

    scores: NDArray[np.float32]
    classes: NDArray[np.int64]
    masks: NDArray[np.bool_]
    box_xyxy: NDArray[np.float32]


def to_predict(model: SOLOv2, device: torch.device) -> None:
    """Make the network ready for `find_in_images`: on `device`, in eval mode."""
    model.to(device).to(memory_format=torch.channels_last).eval()


def find_in_images(
    model: SOLOv2, images: Sequence[NDArray[np.uint8]], test: InferenceConfig
) -> Iterator[Iterator[Found]]:
    """Segment photographs in one forward pass.

    Args:
        images: Each (H, W, 3) uint8 RGB.
    Yields: for every photograph its instances, a few at a time, since a large photograph has large masks.
    """
    sizes = [image.shape[:2] for image in images]
    transforms = [resize_transform(height, width, test.short_side, test.long_side) for height, width in sizes]
    device = next(model.parameters()).device
    batch = batch_images(images, transforms).to(device, memory_format=torch.channels_last)
    with torch.inference_mode():
        found = find_candidates(model(batch), model.instance_strides, _decoding(test))
    for size, transform, candidates in zip(sizes, transforms, found, strict=True):
        yield _instances(size, transform, candidates, test)


def _decoding(test: InferenceConfig) -> Decoding:
    names = Decoding.__dataclass_fields__
    return Decoding(**{name: value for name, value in test.model_dump().items() if name in names})


def _instances(
    size: tuple[int, int], transform: ImageTransform, found: Candidates, test: InferenceConfig
) -> Iterator[Found]:
    step = max(1, _PIXELS_AT_ONCE // (size[0] * size[1]))
    for start in range(0, len(found.scores), step):
        part = Candidates(*(values[start : start + step] for values in found))
        masks = full_masks(part.probabilities, (transform.height, transform.width), size, test.mask_threshold)
        arrays = (part.scores, part.classes, masks, boxes_of_masks(masks))
        yield Found(*(values.cpu().numpy() for values in arrays))


def _entries(
    record: ImageRecord, found: Iterator[Found], categories: Sequence[Category], dropped: Counter[str] | None
) -> Iterator[dict[str, Any]]:
    """The instances of one photograph in COCO's results form."""
    for part in found:
        boxes, codes = xyxy_to_xywh(part.box_xyxy).tolist(), encode_masks(part.masks)
        for score, index, box, code in zip(part.scores.tolist(), part.classes.tolist(), boxes, codes, strict=True):
            if not box[2]:
                if dropped is not None:
                    dropped["mask vanished at the photograph's size"] += 1
                continue
            yield {
                "image_id": record.image_id,
                "category_id": categories[index].category_id,
                "segmentation": {"size": [record.height, record.width], "counts": code.decode("ascii")},
                "bbox": box,
                "score": score,
            }
