"""Pictures of predictions: each photograph with the instances that a model found in it, their names and scores."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from sapnet_pipe.data.coco.instances import ImageRecord
from sapnet_pipe.data.files import disk_errors
from sapnet_pipe.data.images import read_image
from sapnet_pipe.data.photo_names import find_photograph
from sapnet_pipe.data.pixel_depth import AUTO, Depth
from sapnet_pipe.data.progress import progress_bar
from sapnet_pipe.pipeline.pictures.draw import Label, draw_labels, draw_masks, write_picture

GRID = 24  # pictures in the grid
_COLUMNS, _TILE = 4, (400, 300)


def draw_predictions(
    predictions: Path,
    records: Iterable[ImageRecord],
    images_dir: Path,
    out: Path,
    *,
    names: Mapping[int, str],
    min_score: float,
    depth: Depth = AUTO,
    quiet: bool,
) -> int:
    """Draw every photograph with an instance of at least `min_score` into `out`, under its own file name.

    Predictions are read as they are needed and one photograph is held at a time.

    Args:
        predictions: What `stages.segment.predict` wrote: an entry a line, image after image.
        records: The photographs by the ids that the predictions have.
        names: category_id -> name; a category without one is shown by its id.
        depth: How more than 8 bits a channel become 8.
    Some of the pictures are put side by side in ``grid.png``, evenly spread over all.

    Returns: the number of pictures of photographs.
    Raises: UserError for a photograph that cannot be read or a picture that cannot be written.
    """
    by_id = {record.image_id: record for record in records}
    drawn: list[Path] = []
    with progress_bar(total=len(by_id), desc="drawing", unit="image", quiet=quiet) as bar:
        for image_id, found in groupby(_entries(predictions), key=lambda entry: int(entry["image_id"])):
            shown = [entry for entry in found if entry["score"] >= min_score]
            if shown:
                drawn.append(_draw(by_id[image_id], shown, images_dir, out, names, predictions, depth))
            bar.update()
    if len(drawn) > 1:
        _draw_grid(out, drawn)
    return len(drawn)


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
    depth: Depth,
) -> Path:
    field = f"image {record.image_id}.file_name"
    path = find_photograph(images_dir, record.file_name, file=source, field=field)
    pixels = read_image(path, record.height, record.width, depth=depth, file=source, field=field)
    masks = {rank: entry["segmentation"]["counts"].encode("ascii") for rank, entry in enumerate(shown, 1)}
    labels = {rank: _label(entry, names) for rank, entry in enumerate(shown, 1)}
    path = out / record.file_name
    write_picture(path, draw_labels(draw_masks(pixels, masks), labels))
    return path


def _draw_grid(out: Path, drawn: Sequence[Path]) -> None:
    """Some of the pictures as tiles of one, as in the paper's figure 8."""
    places = np.unique(np.linspace(0, len(drawn) - 1, min(GRID, len(drawn)), dtype=int)).tolist()
    columns = min(_COLUMNS, len(places))
    rows = -(-len(places) // columns)
    canvas = Image.new("RGB", (columns * _TILE[0], rows * _TILE[1]), (255, 255, 255))
    for number, place in enumerate(places):
        with Image.open(drawn[place]) as picture:
            tile = ImageOps.contain(picture.convert("RGB"), (_TILE[0] - 4, _TILE[1] - 4))
        row, column = divmod(number, columns)
        left, top = (_TILE[0] - tile.width) // 2, (_TILE[1] - tile.height) // 2
        canvas.paste(tile, (column * _TILE[0] + left, row * _TILE[1] + top))
    name = "grid.png"
    while out / name in drawn:
        name = f"all-{name}"
    write_picture(out / name, np.asarray(canvas))


def _label(entry: Mapping[str, Any], names: Mapping[int, str]) -> Label:
    name = names.get(entry["category_id"], f"category {entry['category_id']}")
    return Label(f"{name} {entry['score']:.2f}", entry["bbox"][0], entry["bbox"][1])
