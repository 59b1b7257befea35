"""Which arrays of the golden vectors a test reads, by the names under which it asks for them."""

import atexit
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

LOG = "SAPNET_GOLDEN_LOG"  # a file that a process appends what it read to; see tests/stages/test_golden_arrays.py
_READ: set[str] = set()


class Recorded(dict[str, Any]):
    """The arrays of one file (or of one case in it); asking for one notes its name."""

    def __init__(self, file: str, arrays: Mapping[str, Any]) -> None:
        super().__init__(arrays)
        self._file = file

    def __getitem__(self, key: str) -> Any:
        _READ.add(f"{self._file} {key}")
        return super().__getitem__(key)


@atexit.register
def _write() -> None:
    if LOG in os.environ and _READ:
        with Path(os.environ[LOG]).open("a") as log:
            log.writelines(f"{name}\n" for name in sorted(_READ))
