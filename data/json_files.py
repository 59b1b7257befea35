"""COCO files too large for memory: written an annotation at a time, and read a list at a time, entry by entry."""

import codecs
import json
import tempfile
from array import array
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import ijson
import numpy as np

from sapnet_pipe.data.coco.instances import Category, ImageRecord
from sapnet_pipe.data.errors import UserError
from sapnet_pipe.data.files import atomic_path, reading
from sapnet_pipe.data.progress import progress_bar

_IN_MEMORY = 64_000_000  # bytes of annotations that wait in memory to be sorted; more of them wait in a file
_DEEPEST = 100
# Bytes that are parsed at once: as many lists could be opened in them, each named by all that it lies in.
_CHUNK = 1 << 12


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
    Raises: ValueError for a value that JSON cannot hold, such as NaN; UserError if it cannot be written.
    """
    image_entries = (
        {"id": image.image_id, "file_name": image.file_name, "height": image.height, "width": image.width}
        | ({} if image.text_id is None else {"text_id": image.text_id})
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


def stream_entries(path: Path, key: str, *, label: str = "", quiet: bool = True) -> Iterator[dict[str, Any]]:
    """The entries of the list `key` of the file's object, in order; memory holds one.

    Args:
        label: Of the progress bar, which counts bytes.
    Raises: UserError if the file cannot be read, is not JSON, or an entry is not an object; a file without the list
        has no entries.
    """
    with reading(path):
        file = path.open("rb")
    with file, progress_bar(total=path.stat().st_size, desc=label, unit="B", unit_scale=True, quiet=quiet) as bar:
        try:
            if file.read(len(codecs.BOM_UTF8)) != codecs.BOM_UTF8:
                file.seek(0)
            # Whole numbers stay int and others become float, as with json.loads; NaN is refused.
            events = _shallow(ijson.parse(file, use_float=True, buf_size=_CHUNK))
            for index, entry in enumerate(ijson.items(events, f"{key}.item")):
                if type(entry) is not dict:
                    raise UserError(path, f"{key}[{index}]", entry, "which is not an object", "Give an object")
                yield entry
                bar.update(file.tell() - bar.n)
        except (ijson.JSONError, UnicodeDecodeError, OverflowError, RecursionError) as error:
            position = f"near byte {file.tell()}"
            hint = "Write the file again, or give another"
            raise UserError(path, position, "content", f"not valid JSON ({error})", hint) from error


def _shallow(events: Iterable[tuple[str, str, Any]]) -> Iterator[tuple[str, str, Any]]:
    """The events of a parser, down to a depth: each holds the names of all that it lies in. Raises: RecursionError."""
    depth = 0
    for event in events:
        if event[1] in ("start_map", "start_array"):
            depth += 1
            if depth > _DEEPEST:
                raise RecursionError(f"lists in lists, more than {_DEEPEST} deep")
        elif event[1] in ("end_map", "end_array"):
            depth -= 1
        yield event


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
