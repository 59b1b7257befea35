"""A folder that one process at a time writes into: a bag store, a run, an ablation.

Beside what it is for, such a folder may hold the lock, and temporary files of a process that was killed; neither makes
it taken, and the next holder removes the latter.
"""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from sapnet_pipe.data.errors import UserError
from sapnet_pipe.data.files import disk_errors, made_folder

LOCK = ".lock"
_TEMPORARY = re.compile(r"\..+\.[a-z0-9_]{8}\.tmp")  # as `data.files.atomic_path` names them


@contextmanager
def held_folder(path: Path) -> Iterator[None]:
    """Hold the writer's lock of a folder, which the system releases when the process dies, however it dies.

    The folder is made if need be, and those that were made for this and are still empty at the end are removed again.

    Raises: UserError if another process holds the lock, or the folder cannot be made or written.
    """
    with made_folder(path):
        with disk_errors(path):
            lock = _locked(path)
        try:
            with disk_errors(path):
                _remove_leftovers(path)
            yield
        finally:
            with suppress(OSError):  # Windows removes no open file; there the lock does it as it is released
                (path / LOCK).unlink()
            lock.release()


def contents(path: Path) -> list[Path]:
    """What is in a folder but the lock and leftovers, sorted; nothing if there is no such folder."""
    with disk_errors(path):
        return sorted(entry for entry in path.iterdir() if not is_own(entry.name)) if path.is_dir() else []


def is_own(name: str) -> bool:
    """Whether a name is that of the lock or of a temporary file."""
    return name == LOCK or _TEMPORARY.fullmatch(name) is not None


def _locked(path: Path) -> FileLock:
    file = path / LOCK
    holder = _holder(file)
    lock = FileLock(file)
    try:
        # The holder removes the file as it leaves. A lock on a removed file guards nothing and is taken anew, for
        # which there is the second.
        lock.acquire(timeout=1)
    except Timeout as error:
        problem = f"another process{holder} is writing there now"
        raise UserError(path, "lock", LOCK, problem, "Wait for it, or choose another --out") from error
    with suppress(OSError):
        file.write_text(str(os.getpid()))
    return lock


def _holder(file: Path) -> str:
    """Who holds the lock, where the file can be read and says so: who waits for the lock empties it."""
    with suppress(OSError, ValueError):
        return f" ({int(file.read_text())})"
    return ""


def _remove_leftovers(path: Path) -> None:
    """Of this folder and of those just below it, of which a run has some."""
    for entry in [*path.glob(".*.tmp"), *path.glob("*/.*.tmp")]:
        if not is_own(entry.name):
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
