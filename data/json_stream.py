"""Reading one list of a JSON file that is too large to be held, entry by entry."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ijson
from tqdm import tqdm

from data.errors import UserError
from data.files import disk_errors

_CHUNK = 1 << 20


def stream_entries(path: Path, key: str, *, label: str = "", quiet: bool = True) -> Iterator[dict[str, Any]]:
    """The entries of the list `key` of the file's object, in order; memory holds one.

    Args:
        label: Of the progress bar, which counts bytes.
    Raises: UserError if the file cannot be read, is not JSON, or an entry is not an object; a file without the list
        has no entries.
    """
    with disk_errors(path):
        file = path.open("rb")
    with file, tqdm(total=path.stat().st_size, desc=label, unit="B", unit_scale=True, disable=quiet) as bar:
        try:
            # Ints stay ints, other numbers become floats, as json.loads has it; NaN is not JSON here.
            for index, entry in enumerate(ijson.items(file, f"{key}.item", use_float=True, buf_size=_CHUNK)):
                if type(entry) is not dict:
                    raise UserError(path, f"{key}[{index}]", entry, "which is not an object", "Give an object")
                yield entry
                bar.update(file.tell() - bar.n)
        except (ijson.JSONError, UnicodeDecodeError, OverflowError) as error:
            position = f"near byte {file.tell()}"
            mend = "Write the file again, or give another"
            raise UserError(path, position, "content", f"not valid JSON ({error})", mend) from error
