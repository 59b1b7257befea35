"""From the name of a photograph in a file to the photograph in the image folder: one rule for every stage.

The name itself is tried first. Where there is no such file, differences count for nothing that come from carrying a set
from one machine to another, if that leaves exactly one photograph: backslashes, the image folder's own name before the
name, composed or decomposed accents (NFC, NFD), capitals, and the suffix.
"""

import os
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from os import PathLike
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, TypeGuard

from sapnet_pipe.data.errors import FaultKind, FaultReport, UserError, mended
from sapnet_pipe.data.images import image_size, suffixes

REFUSE_LINKS = "SAPNET_REFUSE_LINKS"
"""Environment variable: any value but 0 refuses photographs that a link places outside the image folder."""

_SPELLING = mended(
    "photographs-spelled-otherwise",
    "photographs are spelled otherwise in the image folder",
    "Those of the folder are read: check that they are the same",
)
_SHARED = FaultKind(
    "photographs-missing",
    "photographs are missing, and others have nearly their names",
    "Correct the name, or put the photograph into the image folder",
)

_LONGEST, _LONGEST_PATH = 255, 4000  # bytes


def is_text(value: Any) -> TypeGuard[str]:
    """Whether a JSON value is a string that is not blank and can be written again (JSON may hold half characters)."""
    return type(value) is str and bool(value.strip()) and not any("\ud800" <= letter <= "\udfff" for letter in value)


def check_file_name(path: str | PathLike[str], field: str, name: Any) -> str:
    """Return `name` if it is a file name inside some folder; UserError if it is absolute, climbs out or is none."""
    if not is_text(name):
        raise UserError(path, field, name, "which is not a file name", "Give the file's name in the image folder")
    absolute = PurePosixPath(name).is_absolute() or PureWindowsPath(name).drive or name.startswith("\\")
    if absolute or "\0" in name or ".." in name.replace("\\", "/").split("/"):
        hint = "Use a file name relative to that folder"
        raise UserError(path, field, name, "which leaves the image folder", hint)
    if max(len(part.encode()) for part in name.split("/")) > _LONGEST or len(name.encode()) > _LONGEST_PATH:
        raise UserError(path, field, name, "which is longer than a file name can be", "Check the columns of the file")
    return name


def find_photograph(root: Path, name: str, *, file: str | PathLike[str], field: str) -> Path:
    """The photograph that a file means by `name`; ``root / name`` where no single one can be meant.

    What a link points to may lie anywhere, unless `REFUSE_LINKS` is set.

    Raises: UserError naming `file` and `field` if `name` is absolute or climbs out of `root`.
    """
    check_file_name(file, field, name)
    path = root / name
    if not _exists(path):
        path = next((found for parts in _readings(root, name) if (found := _walk(root, parts))), path)
    if os.environ.get(REFUSE_LINKS, "0") != "0" and not path.resolve().is_relative_to(root.resolve()):
        problem = f"which a link places outside the image folder {root}"
        raise UserError(file, field, name, problem, f"Copy it there, or unset {REFUSE_LINKS}")
    return path


def sizes_in(root: Path, file: Path) -> Callable[[str, str], tuple[int, int]]:
    """The function (file name, field) -> (height, width) that opens photographs of `root`; `file` is blamed."""

    def size_of(name: str, field: str) -> tuple[int, int]:
        if not root.is_dir():
            raise UserError(root, "images", str(root), "which is not a folder", "Name the image folder")
        return image_size(find_photograph(root, name, file=file, field=field), file=file, field=field)

    return size_of


def check_spelling(root: Path, names: Mapping[str, str], report: FaultReport) -> None:
    """Report the photographs that are found under another name than that of the file.

    Two names that would lead to one photograph are a fault: one of the two is missing.

    Args:
        names: File name -> the field that gives it.
    """
    others: dict[Path, str] = {}
    for name, field in names.items():
        path = find_photograph(root, name, file=report.source, field=field)
        if path != root / name:
            twin = others.setdefault(path, name)
            own = path.relative_to(root).as_posix()
            if twin != name or own in names:
                report(_SHARED, field, name, f"for which {own} would be read, as for {own if own in names else twin}")
            report(_SPELLING, field, f"{name} is {own}", "which differs")


def photographs_in(folder: Path) -> tuple[list[str], dict[str, int]]:
    """The photographs of a folder and of those below it, by name in order, and the number of other files by suffix.

    Linked folders are entered, each once. What macOS leaves behind (``._*``, ``__MACOSX``) is passed over.

    Returns: names relative to `folder`, with slashes; and the number of other files by their suffix in small letters.
    """
    names, others = list[str](), dict[str, int]()
    seen = {folder.resolve()}
    for place, folders, files in os.walk(folder, followlinks=True):
        folders[:] = [inner for inner in folders if inner != "__MACOSX" and _is_new(Path(place, inner), seen)]
        for file in files:
            path = Path(place, file)
            if not file.startswith("._") and path.is_file():
                if path.suffix.lower() in suffixes():
                    names.append(path.relative_to(folder).as_posix())
                else:
                    suffix = path.suffix.lower() or "without suffix"
                    others[suffix] = others.get(suffix, 0) + 1
    return sorted(names), dict(sorted(others.items()))


def skipped_note(others: Mapping[str, int]) -> str | None:
    """What is to be said of files of a folder that are no photographs; None if there are none."""
    if not others:
        return None
    kinds = ", ".join(f"{count} {suffix}" for suffix, count in others.items())
    heic = " HEIC is read where pillow-heif is installed." if {".heic", ".heif"} & others.keys() else ""
    return f"{sum(others.values())} files that are not photographs were passed over ({kinds}).{heic}"


def _is_new(folder: Path, seen: set[Path]) -> bool:
    """Whether a folder was not entered before: links can make circles."""
    real = folder.resolve()
    if real in seen:
        return False
    seen.add(real)
    return True


def _readings(root: Path, name: str) -> Iterable[tuple[str, ...]]:
    """The parts of the name, and without the image folder's own name before it."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    yield parts
    if len(parts) > 1 and _plain(parts[0]) == _plain(root.resolve().name):
        yield parts[1:]


def _walk(root: Path, parts: tuple[str, ...]) -> Path | None:
    """The only path below `root` that has these parts, but for accents, capitals and, at its end, the suffix."""
    path = root
    for place, part in enumerate(parts, 1):
        if not _exists(path / part):
            found = _listing(str(path), _time_of(path))
            alike = found.get(_plain(part)) or (found.get(_stem(part)) if place == len(parts) else None) or []
            if len(alike) != 1:
                return None
            part = alike[0]
        path = path / part
    return path


@lru_cache(maxsize=64)
def _listing(folder: str, changed: int) -> dict[str, list[str]]:
    """Entries of a folder by their plain names, and photographs also by their stems."""
    found: dict[str, list[str]] = {}
    try:
        entries = sorted(entry.name for entry in Path(folder).iterdir()) if changed >= 0 else []
    except OSError:
        entries = []
    for entry in entries:
        found.setdefault(_plain(entry), []).append(entry)
        if Path(entry).suffix.lower() in suffixes() and not entry.startswith("._"):
            found.setdefault(_stem(entry), []).append(entry)
    return found


def _time_of(folder: Path) -> int:
    """When entries of the folder changed last; -1 if it is none."""
    return folder.stat().st_mtime_ns if folder.is_dir() else -1


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name that is too long
        return False


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _stem(name: str) -> str:
    """The key of a photograph without its suffix; no plain name looks like it."""
    return f"{_plain(Path(name).stem)}/"
