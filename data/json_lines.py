"""Writing large COCO files: one annotation a line, as they come, whole or not at all."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from data.coco import Category, ImageRecord
from data.files import atomic_path


def write_coco(
    path: Path,
    *,
    info: Mapping[str, Any],
    images: Iterable[ImageRecord],
    categories: Iterable[Category],
    annotations: Iterable[Mapping[str, Any]],
) -> None:
    """Write a COCO file atomically as strict JSON; the same values give the same bytes.

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
            for index, entry in enumerate(entries):
                file.write((",\n" if index else "\n") + _dump(entry))
            file.write("\n]")
        file.write("\n}\n")


def _dump(value: Mapping[str, Any]) -> str:
    return json.dumps(value, allow_nan=False, ensure_ascii=False)
