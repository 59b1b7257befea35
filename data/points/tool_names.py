"""The name that an annotation tool gives a photograph, looked up in the image folder.

Tools write the path of the machine on which the clicks were made, a URL, or the name of an upload. The name is taken as
`data.photo_names` reads it; where there is no such photograph, without the escapes and the host of a URL, then without
its first folders one by one, without the prefix that Label Studio gives to uploads, and last as the only photograph of
that name in any folder. Nothing outside the image folder is ever read.
"""

import re
from collections import defaultdict
from collections.abc import Iterator
from functools import cached_property
from os import PathLike
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from sapnet_pipe.data.errors import UserError
from sapnet_pipe.data.photo_names import check_file_name, find_photograph, is_text, photographs_in

_SCHEME = re.compile(r"^[a-z][a-z0-9+.-]+://", re.IGNORECASE)
_UPLOAD = re.compile(r"^[0-9a-f]{2,}-(?=.)")
_ANNOTATION_ENDINGS = ("_points", "_dots", "_dot", "_gt", "_labels", "_results", "-points", "-dots", "-results", "dots")


class PhotographFinder:
    """Finds photographs of one image folder by the names that tools give them.

    Args:
        root: The image folder; without it names are only made fit to be file names.
    """

    def __init__(self, root: Path | None) -> None:
        self._root = root
        self._found: dict[str, str] = {}

    def find(self, name: Any, *, file: str | PathLike[str], field: str) -> str:
        """The name in the image folder.

        Returns: where no photograph can be meant, the name as it stands, which is reported when it is opened.
        Raises: UserError naming `file` and `field` if it is no file name, leaves the image folder and is not in there
            under its last part either, or may be several photographs.
        """
        if not is_text(name):
            return check_file_name(file, field, name)
        if name not in self._found:
            self._found[name] = self._find(name, file, field)
        return self._found[name]

    def _find(self, name: str, file: str | PathLike[str], field: str) -> str:
        tried = list(dict.fromkeys(_readings(name)))
        if self._root is None:
            return check_file_name(file, field, next((one for one in tried if _is_inside(one)), name))
        for reading in tried:
            if _is_inside(reading):
                path = find_photograph(self._root, reading, file=file, field=field)
                if path.is_file():
                    return reading if reading == name else path.relative_to(self._root).as_posix()
        alike = self._by_last_part.get(PurePosixPath(tried[-1]).name.casefold(), [])
        if len(alike) > 1:
            problem = f"which may be {alike[0]} or {alike[1]}"
            raise UserError(file, field, name, problem, "Give the name with its folder")
        return alike[0] if alike else check_file_name(file, field, name)

    def photograph_of(self, annotations: Path) -> str | None:
        """The only photograph whose name a file of clicks has, but for its suffix and a usual ending such as _dots."""
        stems = [annotations.stem.casefold(), Path(annotations.stem).stem.casefold()]
        stems += [stem.removesuffix(ending) for stem in stems[:1] for ending in _ANNOTATION_ENDINGS]
        for stem in stems:
            if len(found := self._by_stem.get(stem, [])) == 1:
                return found[0]
        return None

    @cached_property
    def _names(self) -> list[str]:
        return [] if self._root is None or not self._root.is_dir() else photographs_in(self._root)[0]

    @cached_property
    def _by_last_part(self) -> dict[str, list[str]]:
        found = defaultdict[str, list[str]](list)
        for name in self._names:
            found[PurePosixPath(name).name.casefold()].append(name)
        return found

    @cached_property
    def _by_stem(self) -> dict[str, list[str]]:
        found = defaultdict[str, list[str]](list)
        for name in self._names:
            found[PurePosixPath(name).stem.casefold()].append(name)
        return found


def _readings(name: str) -> Iterator[str]:
    """What a name may mean, the likeliest first; the last is its last part alone."""
    yield name
    path = name
    if _SCHEME.match(name) or "?d=" in name:
        url = urlsplit(name)
        path = parse_qs(url.query).get("d", [url.path])[0]
    for spelled in dict.fromkeys((path, unquote(path))):
        parts = [part for part in spelled.replace("\\", "/").split("/") if part not in ("", ".", "..")]
        for first in range(len(parts)):
            yield "/".join(parts[first:])
        if parts:
            yield _UPLOAD.sub("", parts[-1])


def _is_inside(name: str) -> bool:
    try:
        check_file_name("", "", name)
    except UserError:
        return False
    return True
