"""Text in XML files, by hand, so that they are written an element at a time."""

import re
from os import PathLike
from xml.sax.saxutils import escape, quoteattr

from sapnet_pipe.data.errors import UserError

_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def check_xml(text: str, *, file: str | PathLike[str], field: str) -> str:
    """Return the text. Raises: UserError if it holds a character that no XML file can hold."""
    if _FORBIDDEN.search(text):
        raise UserError(file, field, text, "which holds a control character, and XML cannot", "Choose another name")
    return text


def element(name: str, text: str) -> str:
    """An element with a text."""
    return f"<{name}>{escape(text)}</{name}>"


def attributes(**values: object) -> str:
    """Attributes with a blank before each; those that are None are left out."""
    return "".join(f" {name}={quoteattr(str(value))}" for name, value in values.items() if value is not None)
