"""Folders that are there whole or not at all."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sapnet_pipe.data.files import disk_errors, made_folder


@contextmanager
def staged_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path`, which is new or empty; on success rename it, on failure remove it."""
    with disk_errors(path), made_folder(path.parent):
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent))
        try:
            yield temporary
            mask = os.umask(0)
            os.umask(mask)
            temporary.chmod(0o777 & ~mask)
            temporary.replace(path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
