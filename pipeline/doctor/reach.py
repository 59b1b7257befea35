"""Whether a published file answers from here; nothing is downloaded."""

from urllib.error import URLError
from urllib.request import Request, urlopen

_SECONDS = 5.0


def is_within_reach(url: str) -> bool:
    """Whether the server of an https address answers that it has the file."""
    try:
        with urlopen(Request(url, method="HEAD"), timeout=_SECONDS):
            return True
    except (URLError, OSError, ValueError):
        return False
