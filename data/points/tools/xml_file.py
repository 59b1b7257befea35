"""XML of untrusted files: parsed without document types, which is where its attacks live."""

from xml.etree import ElementTree

from sapnet_pipe.data.errors import UserError
from sapnet_pipe.data.points.click_file import PointsFile


def xml_root(file: PointsFile) -> ElementTree.Element | None:
    """The root element; None if the file is not XML. Raises: UserError for XML that is damaged or has a DOCTYPE."""
    if not file.content.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        return None
    if b"<!DOCTYPE" in file.content or b"<!ENTITY" in file.content:
        problem = "which no annotation tool writes and which is not read"
        raise UserError(file.path, "content", "DOCTYPE", problem, "Remove it from the file")
    try:
        return ElementTree.fromstring(file.content)
    except ElementTree.ParseError as error:
        raise UserError(file.path, "content", str(error), "so it is not XML", "Export it again") from error
