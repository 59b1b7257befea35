"""Reading and writing files so that they are there whole or not at all."""

import errno
import hashlib
import json
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sapnet_pipe.data.errors import UserError

_HINTS = {
    errno.ENOSPC: ("the disk is full", "Free space there, or choose another folder"),
    errno.EDQUOT: ("the disk quota is used up", "Free space there, or choose another folder"),
    errno.EACCES: ("it may not be written or read", "Change its permissions, or choose another path"),
    errno.EPERM: ("it may not be written or read", "Change its permissions, or choose another path"),
    errno.EROFS: ("the file system is read-only", "Choose a folder that can be written"),
    errno.ENOTDIR: ("a part of the path is a file, not a folder", "Choose another path"),
    errno.EISDIR: ("it is a folder", "Name a file"),
    errno.ENOENT: ("it does not exist", "Check the path"),
    errno.EEXIST: ("it exists and is not what is needed here", "Choose another path"),
    errno.ENAMETOOLONG: ("the name is too long", "Choose a shorter path"),
    errno.EFBIG: ("the file grew past the limit on file sizes", "Raise the limit, or choose another folder"),
}

_OPEN = ("/dev/fd", "/proc/self/fd")  # where the files that a process has open are named


@contextmanager
def disk_errors(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn the OS errors that a user can fix (full, forbidden, missing) into a `UserError` about `path`."""
    try:
        yield
    except OSError as error:
        if error.errno not in _HINTS:
            raise
        problem, hint = _HINTS[error.errno]
        raise UserError(path, "path", error.filename or str(path), problem, hint) from error


@contextmanager
def reading(path: str | os.PathLike[str]) -> Iterator[None]:
    """`disk_errors` about a file that is to be read.

    A device has no end, and a named pipe may have nobody who writes to it: they are a `UserError` too, but for pipes
    that are open already, /dev/stdin and a shell's ``<(command)``.
    """
    with disk_errors(path):
        mode = Path(path).stat().st_mode
        is_open = str(Path(path).parent) in _OPEN or os.fspath(path) == "/dev/stdin"
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or (is_open and not stat.S_ISBLK(mode))):
            raise UserError(path, "path", str(path), "a pipe or a device, not a file", "Name a file")
        yield


@contextmanager
def made_folder(path: Path) -> Iterator[None]:
    """Make a folder and those above it; those that were made and are empty at the end are taken away again."""
    with disk_errors(path):
        made = [folder for folder in (path, *path.parents) if not folder.exists()]
    try:
        with disk_errors(path):
            path.mkdir(parents=True, exist_ok=True)
        yield
    finally:
        with suppress(OSError):  # the first that holds something ends it
            for folder in made:
                folder.rmdir()


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success sync it and rename it to `path`, on failure remove it."""
    with disk_errors(path), made_folder(path.parent):
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            _apply_umask(temporary)
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
            _sync_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path` atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_json(path: Path, value: Any, *, indent: int | None = None) -> None:
    """Write `value` as strict JSON (no NaN), atomically; the same value gives the same bytes."""
    write_bytes(path, json_bytes(value, indent=indent))


def json_bytes(value: Any, *, indent: int | None = None) -> bytes:
    """`value` as strict JSON (no NaN) with a final newline."""
    return (json.dumps(value, indent=indent, allow_nan=False, ensure_ascii=False) + "\n").encode()


def read_json(path: Path) -> Any:
    """Parse a JSON file; NaN and Infinity are kept as floats so that the reader can name the field.

    Raises: UserError if the file is missing, not readable, or not JSON (line and column are named).
    """
    with reading(path):
        content = Path(path).read_bytes()
    return parse_json(content, path)


def parse_json(content: bytes, path: str | os.PathLike[str]) -> Any:
    """Parse the bytes of a JSON file as `read_json` does; `path` is what messages name."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:  # ValueError: malformed, not UTF-8, or a number of 5,000 digits
        hint = "Write the file again, or give another"
        if not isinstance(error, json.JSONDecodeError):
            raise UserError(path, "content", content[:40], f"not valid JSON ({error})", hint) from error
        where = f"line {error.lineno} column {error.colno}"
        found = error.doc[error.pos : error.pos + 40] or "the end of the file"
        raise UserError(path, where, found, f"not valid JSON ({error.msg})", hint) from error


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of the file's bytes."""
    with reading(path), Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _sha256(file)


def _sha256(file: Any) -> str:
    digest = hashlib.sha256()
    while chunk := file.read(1 << 20):
        digest.update(chunk)
    return digest.hexdigest()


def _apply_umask(path: Path) -> None:
    """Give a mkstemp file (mode 0600) the permissions that a plain `open` would have given."""
    mask = os.umask(0)
    os.umask(mask)
    path.chmod(0o666 & ~mask)


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":  # Windows opens no folder as a file, and keeps renamings itself
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
