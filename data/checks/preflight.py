"""All checks of a points file or a label file together with its photographs."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from sapnet_pipe.data.checks.boxes import check_boxes
from sapnet_pipe.data.checks.clicks import check_document_clicks
from sapnet_pipe.data.checks.clicks_csv import check_csv_clicks
from sapnet_pipe.data.checks.findings import Findings, Kind
from sapnet_pipe.data.checks.masks import check_boxes_of_masks, check_masks
from sapnet_pipe.data.checks.photographs import PhotoSizes, check_pixels, check_sizes, check_unnamed, photographs_in
from sapnet_pipe.data.checks.raw_document import RawDocument, read_raw
from sapnet_pipe.data.errors import UserError
from sapnet_pipe.data.labels.pseudo_labels import read_pseudo_labels
from sapnet_pipe.data.points.reader import read_points

_REFUSED = Kind("refused", "is refused by the commands that read it", "Fix what the example says")
_NO_FOLDER = Kind("no-image-folder", "is no folder", "Give the folder of the photographs")


@dataclass(frozen=True)
class CheckedFile:
    """What a file holds, as far as it could be read.

    Attributes:
        objects: Usable clicks, or masks.
        forms: Number of clicks by the form they are written in; empty for labels.
        work: ((height, width), number of clicks) of every image that has a click and whose size is known.
        photographs, decoded: Number looked for, and of these decoded.
    """

    path: Path
    images: int
    categories: int
    objects: int
    forms: dict[str, int]
    work: tuple[tuple[tuple[int, int], int], ...]
    photographs: int
    decoded: int


def check_points(path: Path, images: Path | None, findings: Findings, *, decode: int, quiet: bool) -> CheckedFile:
    """Check a points file of any form.

    Args:
        images: Image folder; without it photographs are not looked at.
        decode: Photographs that are decoded at most; the others are only opened.
    """
    photos = _photos(path, images, findings)
    if path.suffix.lower() == ".csv":
        summary = check_csv_clicks(path, photos, findings)
        sizes = {name: photos.size(str(name)) if photos else None for name in summary.points_of_image}
        names = [str(name) for name in sizes]
        count, categories = len(names), summary.categories
    else:
        document = read_raw(path, findings)
        if document is None:
            return CheckedFile(path, 0, 0, 0, {}, (), 0, 0)
        _check_point_boxes(document, findings)
        summary = check_document_clicks(document, findings)
        if photos is not None:
            pointed = [image for image in document.images.values() if image.key in summary.points_of_image]
            check_sizes(path, pointed, photos, findings, quiet)
        sizes, names = _sizes_of(document), _names_of(document)
        count, categories = len(document.images), len(document.categories)
    looked_at, decoded = _photographs(path, photos, names, findings, decode, quiet)
    if path.suffix.lower() != ".csv" or photos is not None:
        _ask_reader(path, findings, lambda: read_points(path, images))
    work = tuple((size, number) for key, number in summary.points_of_image.items() if (size := sizes.get(key)))
    objects = sum(summary.forms.values())
    return CheckedFile(path, count, categories, objects, summary.forms, work, looked_at, decoded)


def check_labels(path: Path, images: Path | None, findings: Findings, *, decode: int, quiet: bool) -> CheckedFile:
    """Check a COCO instances file; see `check_points`."""
    photos = _photos(path, images, findings)
    document = read_raw(path, findings)
    if document is None:
        return CheckedFile(path, 0, 0, 0, {}, (), 0, 0)
    if photos is not None:
        check_sizes(path, document.images.values(), photos, findings, quiet)
    boxes = check_masks(
        path,
        document.annotations,
        findings,
        wrap=lambda entries: tqdm(entries, desc="checking masks", unit="mask", disable=quiet, leave=False),
    )
    check_boxes(path, document.annotations, findings, mask_box_xyxy=boxes)
    check_boxes_of_masks(path, document.annotations, boxes, findings)
    looked_at, decoded = _photographs(path, photos, _names_of(document), findings, decode, quiet)
    _ask_reader(path, findings, lambda: read_pseudo_labels(path))
    return CheckedFile(path, len(document.images), len(document.categories), len(boxes), {}, (), looked_at, decoded)


def check_folder(images: Path, findings: Findings, *, decode: int, quiet: bool) -> CheckedFile:
    """Check the photographs of a folder without a file that names them."""
    photos = _photos(images, images, findings)
    if photos is not None:
        for path in photographs_in(images):
            photos.size(str(path))
    looked_at, decoded = (photos.looked_up, check_pixels(photos, decode, quiet)) if photos is not None else (0, 0)
    return CheckedFile(images, looked_at, 0, 0, {}, (), looked_at, decoded)


def _photos(path: Path, images: Path | None, findings: Findings) -> PhotoSizes | None:
    if images is None:
        return None
    if not images.is_dir():
        findings.add(_NO_FOLDER, images, "it is a file" if images.exists() else "it is not there")
        return None
    return PhotoSizes(images, path, findings)


def _check_point_boxes(document: RawDocument, findings: Findings) -> None:
    """The boxes that clicks are made of, and the others, which only `evaluate` and other programs look at."""
    bare = [a for a in document.annotations if "true_bbox" in a.entry and a.entry.get("point") is None]
    check_boxes(document.source, bare, findings, clicks=True)
    real = [a for a in document.annotations if "true_bbox" not in a.entry]
    check_boxes(document.source, real, findings, refused=False)


def _sizes_of(document: RawDocument) -> dict[object, tuple[int, int] | None]:
    return {
        image.key: None if image.height is None or image.width is None else (image.height, image.width)
        for image in document.images.values()
    }


def _names_of(document: RawDocument) -> list[str]:
    return [image.file_name for image in document.images.values() if image.file_name is not None]


def _photographs(
    path: Path, photos: PhotoSizes | None, names: list[str], findings: Findings, decode: int, quiet: bool
) -> tuple[int, int]:
    """Number of photographs looked for, and of these decoded."""
    if photos is None:
        return 0, 0
    check_unnamed(path, photos.folder, names, findings)
    return photos.looked_up, check_pixels(photos, decode, quiet)


def _ask_reader(path: Path, findings: Findings, read: Callable[[], object]) -> None:
    """The readers have the last word: what they refuse must be fixed, also if no check knows it."""
    if any(finding.file == str(path) for finding in findings.errors()):
        return
    try:
        read()
    except UserError as error:
        findings.add(_REFUSED, path, str(error))
