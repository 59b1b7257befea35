"""Pictures of predictions: each photograph with the instances that a model found in it, their names and scores."""

import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

from sapnet_pipe.data.coco.instances import ImageRecord
from sapnet_pipe.data.files import disk_errors
from sapnet_pipe.data.images import read_image
from sapnet_pipe.data.photo_names import find_photograph
from sapnet_pipe.data.progress import progress_bar
from sapnet_pipe.pipeline.pictures.draw import Label, draw_labels, draw_masks, write_picture


def draw_predictions(
    predictions: Path,
    records: Iterable[ImageRecord],
    images_dir: Path,
    out: Path,
    *,
    names: Mapping[int, str],
    min_score: float,
    quiet: bool,
) -> int:
    """Draw every photograph with an instance of at least `min_score` into `out`, under its own file name.

    Predictions are read as they are needed and one photograph is held at a time.

    Args:
        predictions: What `stages.segment.predict` wrote: an entry a line, image after image.
        records: The photographs by the ids that the predictions have.
        names: category_id -> name; a category without one is shown by its id.
    Returns: the number of pictures.
    Raises: UserError for a photograph that cannot be read or a picture that cannot be written.
    """
    by_id = {record.image_id: record for record in records}
    count = 0
    with progress_bar(total=len(by_id), desc="drawing", unit="image", quiet=quiet) as bar:
        for image_id, found in groupby(_entries(predictions), key=lambda entry: int(entry["image_id"])):
            shown = [entry for entry in found if entry["score"] >= min_score]
            if shown:
                _draw(by_id[image_id], shown, images_dir, out, names, predictions)
                count += 1
            bar.update()
    return count


def _entries(predictions: Path) -> Iterator[dict[str, Any]]:
    with disk_errors(predictions), predictions.open(encoding="utf-8") as lines:
        for line in lines:
            if line.startswith("{"):
                yield json.loads(line.rstrip().rstrip(","))


def _draw(
    record: ImageRecord,
    shown: list[dict[str, Any]],
    images_dir: Path,
    out: Path,
    names: Mapping[int, str],
    source: Path,
) -> None:
    field = f"image {record.image_id}.file_name"
    path = find_photograph(images_dir, record.file_name, file=source, field=field)
    pixels = read_image(path, record.height, record.width, file=source, field=field)
    masks = {rank: entry["segmentation"]["counts"].encode("ascii") for rank, entry in enumerate(shown, 1)}
    labels = {rank: _label(entry, names) for rank, entry in enumerate(shown, 1)}
    write_picture(out / record.file_name, draw_labels(draw_masks(pixels, masks), labels))


def _label(entry: Mapping[str, Any], names: Mapping[int, str]) -> Label:
    name = names.get(entry["category_id"], f"category {entry['category_id']}")
    return Label(f"{name} {entry['score']:.2f}", entry["bbox"][0], entry["bbox"][1])
