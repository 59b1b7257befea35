"""Writing large COCO files: one annotation a line, as they come, whole or not at all."""

import json
import tempfile
from array import array
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from data.coco import Category, ImageRecord
from data.files import atomic_path

_IN_MEMORY = 64_000_000  # bytes of annotations that wait to be sorted without a file


def write_coco(
    path: Path,
    *,
    info: Mapping[str, Any],
    images: Iterable[ImageRecord],
    categories: Iterable[Category],
    annotations: Iterable[Mapping[str, Any]],
    by_id: bool = False,
) -> None:
    """Write a COCO file atomically as strict JSON; the same values give the same bytes.

    Args:
        annotations: Taken one by one, so that they need not be in memory together.
        by_id: Put the annotations in ascending order of their ids; many of them wait in a file beside `path`.
    Raises: ValueError for a value that JSON has not, such as NaN; UserError if it cannot be written.
    """
    image_entries = (
        {"id": image.image_id, "file_name": image.file_name, "height": image.height, "width": image.width}
        for image in images
    )
    category_entries = ({"id": category.category_id, "name": category.name} for category in categories)
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        file.write('{"info": ' + _dump(info))
        for key, entries in (("images", image_entries), ("categories", category_entries), ("annotations", annotations)):
            file.write(f',\n"{key}": [')
            texts = _by_id(entries, path.parent) if by_id and key == "annotations" else map(_dump, entries)
            for index, text in enumerate(texts):
                file.write((",\n" if index else "\n") + text)
            file.write("\n]")
        file.write("\n}\n")


def _by_id(entries: Iterable[Mapping[str, Any]], folder: Path) -> Iterator[str]:
    """The entries' JSON in ascending order of their ids; memory holds two numbers of each."""
    ids, offsets = array("q"), array("q", [0])
    with tempfile.SpooledTemporaryFile(_IN_MEMORY, dir=str(folder)) as spool:
        for entry in entries:
            ids.append(entry["id"])
            offsets.append(offsets[-1] + spool.write(_dump(entry).encode()))
        for place in np.argsort(np.frombuffer(ids, np.int64) if ids else [], kind="stable").tolist():
            spool.seek(offsets[place])
            yield spool.read(offsets[place + 1] - offsets[place]).decode()


def _dump(value: Mapping[str, Any]) -> str:
    return json.dumps(value, allow_nan=False, ensure_ascii=False)
