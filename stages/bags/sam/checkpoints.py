"""Finding SAM's weights: the file that was given, the tiny SAM's own, or the official one, downloaded once."""

import http.client
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from sapnet_pipe.data.errors import UserError
from sapnet_pipe.data.files import atomic_path, disk_errors, sha256_file

BASE_URL = "https://dl.fbaipublicfiles.com/segment_anything"
TINY_WEIGHTS = Path(__file__).parents[1] / "tiny_sam" / "tiny_sam.pt"
_TIMEOUT_SECONDS = 60


@dataclass(frozen=True, slots=True)
class OfficialCheckpoint:
    """A published weights file and the checksum of all its bytes (its name holds a prefix of an MD5 only)."""

    file: str
    sha256: str


OFFICIAL = {
    "vit_b": OfficialCheckpoint(
        "sam_vit_b_01ec64.pth", "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912"
    ),
    "vit_l": OfficialCheckpoint(
        "sam_vit_l_0b3195.pth", "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622"
    ),
    "vit_h": OfficialCheckpoint(
        "sam_vit_h_4b8939.pth", "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e"
    ),
}


def checkpoint_sha256(model: str, checkpoint: Path | None) -> str:
    """Hex SHA-256 of the weights that `checkpoint_path` will find, known without a download.

    Raises: UserError if `checkpoint` is given and cannot be read.
    """
    if checkpoint is None and model in OFFICIAL:
        return OFFICIAL[model].sha256
    return sha256_file(checkpoint or TINY_WEIGHTS)


def checkpoint_path(model: str, checkpoint: Path | None, *, quiet: bool = False) -> Path:
    """The weights file on this machine; an official one is downloaded into the cache if it is not there whole.

    The cache is the folder that the environment variable SAPNET_CACHE names, else `~/.cache/sapnet-pipe`.

    Raises: UserError if there is no network, or the download is not the published file.
    """
    if checkpoint is not None:
        return checkpoint
    if model not in OFFICIAL:
        return TINY_WEIGHTS
    official = OFFICIAL[model]
    path = cache_folder() / official.file
    if not (path.is_file() and sha256_file(path) == official.sha256):
        _download(official, path, quiet)
    return path


def cache_folder() -> Path:
    """Where downloads are kept. Raises: UserError for a user without a home who names no folder."""
    named = os.environ.get("SAPNET_CACHE")
    try:
        return Path(named).expanduser() if named else Path.home() / ".cache" / "sapnet-pipe"
    except RuntimeError as error:
        problem = f"so there is no folder for downloads ({error})"
        raise UserError("environment", "HOME", "not set", problem, "Set SAPNET_CACHE to a folder") from error


def _download(official: OfficialCheckpoint, path: Path, quiet: bool) -> None:
    from torch.hub import download_url_to_file  # doctor reads this file's table where torch may be missing

    url = f"{BASE_URL}/{official.file}"
    if not quiet:
        tqdm.write(f"Downloading {url} to {path}", file=sys.stderr)
    drawn = not quiet and sys.stderr.isatty()  # torch.hub redraws its bar in a log file as well
    with atomic_path(path) as temporary:
        try:
            with disk_errors(path), _network_timeout(_TIMEOUT_SECONDS):
                download_url_to_file(url, str(temporary), official.sha256, progress=drawn)
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            raise _not_downloaded(url, path, f"could not be downloaded ({reason})") from error
        except RuntimeError as error:  # another checksum
            raise _not_downloaded(url, path, f"is not the published file ({error})") from error


@contextmanager
def _network_timeout(seconds: float) -> Iterator[None]:
    """How long a server may be silent; torch.hub waits as long as the process's default says, which is for ever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _not_downloaded(url: str, path: Path, problem: str) -> UserError:
    hint = f"Download it in another way and give it with --checkpoint, or put it at {path}"
    return UserError("settings", "checkpoint", url, f"which {problem}", hint)
