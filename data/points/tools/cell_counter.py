"""ImageJ's Cell Counter: XML with the markers of one photograph by type, in whole pixels' indices."""

from collections import Counter
from collections.abc import Iterator

from sapnet_pipe.data.points.click_file import ClickForm, PointsFile
from sapnet_pipe.data.points.marked_photos import Mark, MarkedPhoto
from sapnet_pipe.data.points.tools.xml_file import xml_root

FORM = ClickForm("ImageJ Cell Counter", shift=0.5)


def recognises(file: PointsFile) -> bool:
    """By the root element, `CellCounter_Marker_File`."""
    root = xml_root(file)
    return root is not None and root.tag == "CellCounter_Marker_File"


def photos(file: PointsFile, dropped: Counter[str]) -> Iterator[MarkedPhoto]:
    """The photograph of the file. A type without a name is called by its number, unless a category is given."""
    root = xml_root(file)
    if root is None:
        raise ValueError("no XML")
    photo = MarkedPhoto(root.findtext("Image_Properties/Image_Filename"), "Image_Filename")
    for kind in root.iter("Marker_Type"):
        number = kind.findtext("Type")
        category = kind.findtext("Name") or (None if file.category else f"Type {number}")
        for place, marker in enumerate(kind.findall("Marker")):
            x, y = (float(marker.findtext(axis) or "nan") for axis in ("MarkerX", "MarkerY"))
            photo.marks.append(Mark(x, y, category, f"Marker_Type {number}, Marker[{place}]"))
    yield photo
