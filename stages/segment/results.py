"""Predictions of many photographs in COCO's results form, one photograph after the other in flat memory."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from sapnet_pipe.data.boxes import xyxy_to_xywh
from sapnet_pipe.data.coco.instances import Category, ImageRecord
from sapnet_pipe.data.coco.masks import encode_masks
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
    dropped: Counter[str] | None = None,
) -> Iterator[dict[str, Any]]:
    """Segment photographs; the network is left in eval mode on `device`.

    Args:
        source: The file to blame for a photograph that cannot be read.
        categories: In the order of the class indices.
        dropped: Counts what is left out: masks that vanish at the photograph's size.
    Yields: ``{image_id, category_id, segmentation, bbox, score}``; by image, then falling score.
    Raises: UserError for a photograph that cannot be read.
    """
    model.to(device).to(memory_format=torch.channels_last).eval()
    decoding = _decoding(test)
    with tqdm(total=len(records), unit="image", disable=quiet, dynamic_ncols=True) as bar:
        for start in range(0, len(records), test.batch_size):
            chunk = records[start : start + test.batch_size]
            sides = (test.short_side, test.long_side)
            transforms = [resize_transform(record.height, record.width, *sides) for record in chunk]
            images = batch_images([read_record(record, images_dir, source) for record in chunk], transforms)
            images = images.to(device, memory_format=torch.channels_last)
            with torch.inference_mode():
                found = find_candidates(model(images), model.instance_strides, decoding)
            for record, transform, candidates in zip(chunk, transforms, found, strict=True):
                yield from _entries(record, transform, candidates, categories, test, dropped)
            bar.update(len(chunk))


def _decoding(test: InferenceConfig) -> Decoding:
    names = Decoding.__dataclass_fields__
    return Decoding(**{name: value for name, value in test.model_dump().items() if name in names})


def _entries(
    record: ImageRecord,
    transform: ImageTransform,
    found: Candidates,
    categories: Sequence[Category],
    test: InferenceConfig,
    dropped: Counter[str] | None,
) -> Iterator[dict[str, Any]]:
    """The instances of one photograph; masks are enlarged a few at a time, since a large photograph has large masks."""
    size = (record.height, record.width)
    step = max(1, _PIXELS_AT_ONCE // (record.height * record.width))
    for start in range(0, len(found.scores), step):
        part = Candidates(*(values[start : start + step] for values in found))
        masks = full_masks(part.probabilities, (transform.height, transform.width), size, test.mask_threshold)
        boxes = xyxy_to_xywh(boxes_of_masks(masks).cpu().numpy()).tolist()
        codes = encode_masks(masks.cpu().numpy())
        for score, index, box, code in zip(part.scores.tolist(), part.classes.tolist(), boxes, codes, strict=True):
            if not box[2]:
                if dropped is not None:
                    dropped["mask vanished at the photograph's size"] += 1
                continue
            yield {
                "image_id": record.image_id,
                "category_id": categories[index].category_id,
                "segmentation": {"size": list(size), "counts": code.decode("ascii")},
                "bbox": box,
                "score": score,
            }
