"""All checks of a points file or a label file together with its photographs.

The readers tell their faults themselves (`CollectedFaults`); what stands in this folder goes beyond reading: what many
entries tell together, and what a fault comes from.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sapnet_pipe.data.checks.boxes import check_boxes_of_clicks
from sapnet_pipe.data.checks.clicks import check_clicks
from sapnet_pipe.data.checks.findings import CollectedFaults, Findings
from sapnet_pipe.data.checks.masks import check_masks
from sapnet_pipe.data.checks.photographs import PhotoSizes, check_pixels, check_sizes, check_unnamed
from sapnet_pipe.data.coco.document import Category, ImageRecord, SizeOf
from sapnet_pipe.data.coco.instances import MASK
from sapnet_pipe.data.errors import FaultKind, UserError
from sapnet_pipe.data.labels.pseudo_labels import read_pseudo_labels
from sapnet_pipe.data.photo_names import check_spelling, photographs_in
from sapnet_pipe.data.points.click_file import MALFORMED, NO_POINTS
from sapnet_pipe.data.points.reader import read_clicks
from sapnet_pipe.data.points.tool_file import points_file
from sapnet_pipe.data.progress import progress_bar

_UNREADABLE = FaultKind("unreadable-file", "cannot be read", "Give a COCO JSON file (or CSV of clicks)")
_NO_FOLDER = FaultKind("no-image-folder", "is not a folder", "Give the folder of the photographs")
_SAME_FILE = FaultKind(
    "file-names-shared", "images share their photograph with another entry", "Join them", error=False
)
_SAME_NAME = FaultKind(
    "category-names-shared",
    "categories have the name of another, except for capitals and blanks",
    "Join them if they are the same kind of object",
    error=False,
)


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


def check_points(
    path: Path,
    images: Path | None,
    findings: Findings,
    *,
    decode: int,
    quiet: bool,
    form: str | None = None,
    category: str | None = None,
) -> CheckedFile:
    """Check a points file of any form.

    Args:
        form, category: As `data.points.reader.read_points` takes them.
        images: Image folder; without it photographs are not looked at.
        decode: Photographs that are decoded at most; the others are only opened.
    """
    photos = _photos(path, images, findings)
    try:
        file = points_file(path, images, category)
        found = read_clicks(file, _size_of(photos), CollectedFaults(path, findings), form=form)
    except UserError as error:
        return _unreadable(path, error, findings)
    if findings.has(MALFORMED, path):
        findings.withdraw(NO_POINTS, path, 1)
    _check_names(path, found.images.values(), found.categories, findings)
    boxes, misread = check_boxes_of_clicks(found.document, findings) if found.document else ({}, False)
    check_clicks(found, boxes, misread, findings)
    clicks_of = Counter(click.image_id for click in found.clicks)
    if photos is not None and found.document is not None:
        check_sizes(path, (image for key, image in found.images.items() if key in clicks_of), photos, findings, quiet)
    looked_at, decoded = _photographs(path, photos, found.images.values(), findings, decode, quiet)
    sizes = {key: (image.height, image.width) for key, image in found.images.items() if image.height}
    return CheckedFile(
        path=path,
        images=len(found.images),
        categories=len(found.categories),
        objects=len(found.clicks),
        forms=dict(Counter(click.form.name for click in found.clicks)),
        work=tuple((sizes[key], number) for key, number in clicks_of.items() if key in sizes),
        photographs=looked_at,
        decoded=decoded,
    )


def check_labels(path: Path, images: Path | None, findings: Findings, *, decode: int, quiet: bool) -> CheckedFile:
    """Check a COCO instances file; see `check_points`."""
    photos = _photos(path, images, findings)
    try:
        # The masks are read one by one below, where it shows what a malformed one was meant to be.
        dataset = read_pseudo_labels(path, CollectedFaults(path, findings, left_out=(MASK,)), _size_of(photos))
    except UserError as error:
        return _unreadable(path, error, findings)
    listed = dataset.images.values()
    _check_names(path, listed, dataset.categories, findings)
    if photos is not None:
        check_sizes(path, listed, photos, findings, quiet)
    masks = check_masks(
        dataset,
        findings,
        wrap=lambda entries: progress_bar(entries, desc="checking masks", unit="mask", quiet=quiet, leave=False),
    )
    looked_at, decoded = _photographs(path, photos, listed, findings, decode, quiet)
    return CheckedFile(path, len(listed), len(dataset.categories), masks, {}, (), looked_at, decoded)


def check_folder(images: Path, findings: Findings, *, decode: int, quiet: bool) -> CheckedFile:
    """Check the photographs of a folder without a file that names them."""
    photos = _photos(images, images, findings)
    if photos is not None:
        for name in photographs_in(images)[0]:
            photos.size(name)
    looked_at, decoded = (photos.looked_up, check_pixels(photos, decode, quiet)) if photos is not None else (0, 0)
    return CheckedFile(images, looked_at, 0, 0, {}, (), looked_at, decoded)


def _photos(path: Path, images: Path | None, findings: Findings) -> PhotoSizes | None:
    if images is None:
        return None
    if not images.is_dir():
        findings.add(_NO_FOLDER, images, "it is a file" if images.exists() else "it is not there")
        return None
    return PhotoSizes(images, path, findings)


def _size_of(photos: PhotoSizes | None) -> SizeOf:
    """(height, width) of a photograph by its name; zeros if it is not known."""
    return lambda name, _: (photos.size(name) if photos is not None else None) or (0, 0)


def _unreadable(path: Path, error: UserError, findings: Findings) -> CheckedFile:
    findings.add(replace(_UNREADABLE, hint=error.hint), path, error.fault)
    return CheckedFile(path, 0, 0, 0, {}, (), 0, 0)


def _check_names(path: Path, images: Iterable[ImageRecord], categories: Sequence[Category], findings: Findings) -> None:
    """Photographs that are listed twice, and categories that a typing error has split."""
    names = [image.file_name for image in images if image.file_name]
    for name, count in Counter(names).items():
        if count > 1:
            findings.add(_SAME_FILE, path, f"{name!r}, {count} times", of=len(names))
    folded: dict[str, str] = {}
    for category in categories:
        plain = " ".join(category.name.split()).casefold()
        if plain in folded:
            findings.add(_SAME_NAME, path, f"{category.name!r} and {folded[plain]!r}", of=len(categories))
        folded.setdefault(plain, category.name)


def _photographs(
    path: Path,
    photos: PhotoSizes | None,
    images: Iterable[ImageRecord],
    findings: Findings,
    decode: int,
    quiet: bool,
) -> tuple[int, int]:
    """Number of photographs looked for, and of these decoded."""
    if photos is None:
        return 0, 0
    named = [image.file_name for image in images if image.file_name]
    check_spelling(photos.folder, dict.fromkeys(named, "file_name"), CollectedFaults(path, findings))
    check_unnamed(path, photos, named, findings)
    return photos.looked_up, check_pixels(photos, decode, quiet)
