"""One writer at a time in a store's folder, and nothing in it that is not the store's."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sapnet_pipe.data.errors import UserError
from sapnet_pipe.data.files import disk_errors, made_folder

LOCK = ".lock"


@contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """Hold the writer's lock of `folder`; the kernel releases it when the process dies, however it dies.

    Folders that were made for this and are still empty at the end are taken away again.

    Raises: UserError if another process holds the lock, or the folder cannot be made or written.
    """
    with made_folder(folder):
        with disk_errors(folder):
            descriptor = _take(folder / LOCK, folder)
        try:
            yield
        finally:
            (folder / LOCK).unlink(missing_ok=True)
            os.close(descriptor)


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files of a killed writer; only for the holder of the lock."""
    for pattern in (".bags-*.tmp", ".manifest*.tmp"):
        for path in folder.glob(pattern):
            path.unlink()


def _take(path: Path, folder: Path) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            problem = "another process is writing there now"
            raise UserError(folder, "lock", path.name, problem, "Wait for it, or choose another --out") from error
        # The holder removes the file as it leaves: a lock on a removed file guards nothing, so take the new one.
        if path.exists() and os.fstat(descriptor).st_ino == path.stat().st_ino:
            return descriptor
        os.close(descriptor)
