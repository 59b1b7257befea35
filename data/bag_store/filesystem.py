"""The folder of a bag store: on this machine's disk, or wherever fsspec reaches (``s3://bucket/prefix``, ``gs://...``).

A file is there whole or not at all. On a disk it is written aside, synced and renamed, and one writer at a time holds
the folder. On an object store one PUT is atomic, and nobody can hold a folder; two runs of one identity would write
equal bytes there, and every shard carries the fingerprint of its run.
"""

import errno
import os
import posixpath
import re
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar

import fsspec
import pyarrow as pa

from sapnet_pipe.data.errors import UserError
from sapnet_pipe.data.files import disk_errors, write_bytes
from sapnet_pipe.data.folder_lock import held_folder

Location = str | Path  # a URL is a str; everything else is a path

PATIENCE = "SAPNET_STORE_PATIENCE"  # seconds for which a store that does not answer is tried again
_PATIENCE_SECONDS = 120.0
_FIRST_WAIT, _LONGEST_WAIT = 0.5, 20.0
# One PUT there is atomic, and a rename would be a copy.
_OBJECT_STORES = {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oss", "memory"}
# Faults that waiting does not fix.
_FINAL = (FileNotFoundError, PermissionError, FileExistsError, IsADirectoryError, NotADirectoryError)
_OURS = (UserError, ImportError, MemoryError, TypeError)
_READ_ONLY = {"http", "https"}
_COME_BACK = (408, 425, 429)  # of the answers 4xx of HTTP, those after which the same request may succeed
_NO_BUCKET = re.compile(r"(bucket|container) does not exist|NoSuchBucket|ContainerNotFound")
_Result = TypeVar("_Result")


class StoreFolder(Protocol):
    """What a store needs from its folder; names are plain names of files in it."""

    def at(self, name: str) -> str:
        """How messages name a file."""

    def names(self) -> list[str]:
        """Every file and folder in it, sorted; none if it does not exist."""

    def size(self, name: str) -> int | None:
        """Bytes of a file; None if there is no such file."""

    def read(self, name: str) -> bytes:
        """A whole file."""

    def source(self, name: str) -> Path | pa.NativeFile:
        """A file for pyarrow: the path of a local one, else its content."""

    def write(self, name: str, content: bytes) -> None:
        """Write a file: there whole or not at all."""

    def remove(self, name: str) -> None:
        """Remove a file if it is there."""

    def set_aside(self, name: str) -> str:
        """Give a file that is damaged another name, which is returned: what it holds may still be wanted."""

    def held(self) -> AbstractContextManager[None]:
        """Be its only writer, where its file system can tell; what a killed writer left half done is removed."""


def parse_location(text: str) -> Location:
    """A path or URL as it was typed."""
    protocol, separator, rest = text.partition("://")
    if separator and protocol in ("file", "local") and rest:
        return Path(rest)
    chained = text.partition("::")[0] in fsspec.available_protocols() and "::" in text
    return text if separator or chained else Path(text)


def store_folder(location: Location) -> StoreFolder:
    """The folder at a path or URL; nothing is touched yet.

    Raises: UserError if no package for such a URL is installed, or it is none.
    """
    if "\0" in str(location):
        raise UserError("bag store", "location", str(location), "which holds a null byte", "Correct the path")
    place = parse_location(location) if isinstance(location, str) else location
    return LocalFolder(place) if isinstance(place, Path) else RemoteFolder(place)


class LocalFolder:
    """A folder on a disk."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __str__(self) -> str:
        return str(self.path)

    def at(self, name: str) -> str:
        return str(self.path / name)

    def names(self) -> list[str]:
        with disk_errors(self.path):
            return sorted(path.name for path in self.path.iterdir()) if self.path.is_dir() else []

    def size(self, name: str) -> int | None:
        path = self.path / name
        with disk_errors(path):
            return path.stat().st_size if path.is_file() else None

    def read(self, name: str) -> bytes:
        with disk_errors(self.path / name):
            return (self.path / name).read_bytes()

    def source(self, name: str) -> Path | pa.NativeFile:
        try:
            str(self.path).encode()
        except UnicodeEncodeError:  # pyarrow opens no file below a folder whose name is not UTF-8
            return pa.BufferReader(self.read(name))
        return self.path / name

    def write(self, name: str, content: bytes) -> None:
        write_bytes(self.path / name, content)

    def remove(self, name: str) -> None:
        (self.path / name).unlink(missing_ok=True)

    def set_aside(self, name: str) -> str:
        aside = _free_name(name, self.names())
        with disk_errors(self.path / name):
            (self.path / name).rename(self.path / aside)
        return self.at(aside)

    def held(self) -> AbstractContextManager[None]:
        """See `data.folder_lock.held_folder`."""
        return held_folder(self.path)


class RemoteFolder:
    """A folder that fsspec opens; a server that does not answer is tried again with growing waits."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        if url.startswith("://") or self.url.endswith(":"):
            problem, hint = (
                "which is no whole address",
                "Write it as protocol://bucket-or-host/folder, or give a folder",
            )
            raise UserError("bag store", "location", url, problem, hint)
        try:
            self._fs, self._root = fsspec.core.url_to_fs(self.url, use_listings_cache=False)
        except Exception as error:  # each protocol has its own: of addresses, packages, servers
            hint = "Install what it names (pip install 'sapnet-pipe[s3]' for s3://), or give another location"
            raise UserError(url, "location", url, f"which cannot be opened ({error})", hint) from error
        protocols = {self._fs.protocol} if isinstance(self._fs.protocol, str) else {*self._fs.protocol}
        self._atomic_put, self._read_only = bool(protocols & _OBJECT_STORES), bool(protocols & _READ_ONLY)

    def __str__(self) -> str:
        return self.url

    def at(self, name: str) -> str:
        return f"{self.url}/{name}"

    def names(self) -> list[str]:
        try:
            entries = self._retried("", self._fs.ls, self._root, detail=False)
        except FileNotFoundError:
            return []
        return sorted({posixpath.basename(str(entry).rstrip("/")) for entry in entries} - {""})

    def size(self, name: str) -> int | None:
        try:
            return int(self._retried(name, self._fs.info, self._path(name))["size"])
        except FileNotFoundError:
            return None

    def read(self, name: str) -> bytes:
        with disk_errors(self.at(name)):
            return bytes(self._retried(name, self._fs.cat_file, self._path(name)))

    def source(self, name: str) -> pa.NativeFile:
        # A shard is a megabyte or so: one request for all of it costs less than one for each column.
        return pa.BufferReader(self.read(name))

    def write(self, name: str, content: bytes) -> None:
        with disk_errors(self.at(name)):
            try:
                self._retried(name, self._put, self._path(name), content)
            except FileNotFoundError as error:  # object stores have no folders that could be missing
                raise _no_bucket(self.url, error) from error

    def remove(self, name: str) -> None:
        if self.size(name) is not None:
            self._retried(name, self._fs.rm_file, self._path(name))

    def set_aside(self, name: str) -> str:
        aside = _free_name(name, self.names())
        self._retried(name, self._fs.mv, self._path(name), self._path(aside))
        return self.at(aside)

    @contextmanager
    def held(self) -> Iterator[None]:
        if self._read_only:
            raise _cannot_be_written(self.url)
        for name in self.names():
            if name.startswith(".") and name.endswith(".tmp"):
                self.remove(name)
        yield

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _put(self, path: str, content: bytes) -> None:
        try:
            if self._atomic_put:
                self._fs.pipe_file(path, content)
                return
            folder, name = posixpath.split(path)
            self._fs.makedirs(folder, exist_ok=True)
            temporary = f"{folder}/.{name}.{uuid.uuid4().hex[:8]}.tmp"
            self._fs.pipe_file(temporary, content)
            self._fs.mv(temporary, path)
        except NotImplementedError as error:  # how fsspec says that a file system has no writing
            raise _cannot_be_written(self.url) from error

    def _retried(self, name: str, operation: Callable[..., _Result], *args: Any, **options: Any) -> _Result:
        """Call an operation of the file system until it succeeds, it cannot, or patience ends."""
        patience = _patience()
        started, wait = time.monotonic(), _FIRST_WAIT
        while True:
            try:
                return operation(*args, **options)
            except PermissionError as error:
                raise _refused(self.at(name), "may not be read or written", error) from error
            except FileNotFoundError as error:
                if _NO_BUCKET.search(f"{error} {error.__cause__!r}"):
                    raise _no_bucket(self.url, error) from error
                raise
            except (ValueError, NotImplementedError) as error:
                raise _refused(self.at(name), "cannot be used", error) from error
            except (*_FINAL, *_OURS):
                raise
            except Exception as error:
                if isinstance(error, OSError) and error.errno == errno.EINVAL:
                    raise _refused(self.at(name), "cannot hold a store", error) from error
                if _is_final_answer(getattr(error, "status", None)):
                    raise _refused(self.at(name), "the server refuses", error) from error
                if _lacks_credentials(error):
                    raise _refused(self.at(name), "cannot be reached without credentials", error) from error
                if time.monotonic() - started + wait > patience:
                    raise _silent(self.at(name), error, time.monotonic() - started) from error
            time.sleep(wait)
            wait = min(2 * wait, _LONGEST_WAIT)


def _free_name(name: str, taken: Sequence[str]) -> str:
    numbers = ("", *(f"-{number}" for number in range(2, len(taken) + 3)))
    return next(aside for number in numbers if (aside := f"{name}.damaged{number}") not in taken)


def _patience() -> float:
    given = os.environ.get(PATIENCE, _PATIENCE_SECONDS)
    try:
        return float(given)
    except ValueError as error:
        problem, hint = "which is not a number of seconds", f"Set it to one, such as {_PATIENCE_SECONDS:g}"
        raise UserError("environment", PATIENCE, given, problem, hint) from error


def _lacks_credentials(error: Exception) -> bool:
    return "credential" in type(error).__name__.lower()


def _is_final_answer(status: object) -> bool:
    """Whether the status of HTTP is one that asking again does not change."""
    return isinstance(status, int) and (400 <= status < 500 or status == 501) and status not in _COME_BACK


def _no_bucket(url: str, error: Exception) -> UserError:
    problem = f"whose bucket or container does not exist ({error})"
    return UserError(url, "location", url, problem, "Make it, or correct the address")


def _cannot_be_written(url: str) -> UserError:
    hint = "Write the store to a folder or an object store (s3://, gs://, ...)"
    return UserError(url, "location", url, "which can be read but not written", hint)


def _refused(place: str, problem: str, error: Exception) -> UserError:
    return UserError(place, "location", place, f"which {problem} ({error})", "Check the address and the credentials")


def _silent(place: str, error: Exception, seconds: float) -> UserError:
    problem = f"which did not answer for {seconds:.0f} s ({type(error).__name__}: {error})"
    hint = "Run the same command again once it does: what was finished is kept"
    return UserError(place, "location", place, problem, hint)
