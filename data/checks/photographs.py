"""Checks of the photographs that a file names: there, readable, and as large as the file says."""

from collections.abc import Iterable, Sequence
from os import PathLike
from pathlib import Path

import numpy as np

from sapnet_pipe.data.checks.findings import CollectedFaults, Findings
from sapnet_pipe.data.coco.document import ImageRecord
from sapnet_pipe.data.depth_of_set import depth_of_set
from sapnet_pipe.data.errors import FaultKind, UserError
from sapnet_pipe.data.images import image_sizes, read_image
from sapnet_pipe.data.photo_names import find_photograph, photographs_in
from sapnet_pipe.data.pixel_depth import Depth
from sapnet_pipe.data.progress import progress_bar

MISSING = FaultKind("photographs-missing", "photographs are not in the folder", "Check --images and the file names")
UNREADABLE = FaultKind("photographs-unreadable", "photographs cannot be read", "Get them again, or drop them")
OTHER_SIZE = FaultKind(
    "photographs-of-another-size",
    "photographs are not as large as the file says",
    "Give the original photographs, or correct width and height (and scale points and masks with them)",
)
SWAPPED_SIZE = FaultKind(
    "sizes-swapped",
    "images have width and height exchanged",
    "Write the width into width and the height into height",
    fix="They are exchanged back",
)
_TURNED = FaultKind(
    "photographs-turned",
    "photographs are turned by EXIF, and the file means them as they lie on disk; they are read that way",
    "Check that the points were clicked on pictures lying on their side",
    error=False,
)
_UNNAMED = FaultKind("photographs-unnamed", "photographs in the folder are not in the file", "Add them", error=False)


class PhotoSizes:
    """Sizes of the photographs of a folder, looked up by name and remembered; faults are counted once a name."""

    def __init__(self, folder: Path, blamed: str | PathLike[str], findings: Findings) -> None:
        self.folder, self._blamed, self._findings = folder, blamed, findings
        self._known: dict[str, tuple[tuple[int, int], tuple[int, int]] | None] = {}
        self._paths: dict[str, Path] = {}

    def size(self, name: str) -> tuple[int, int] | None:
        """(height, width) as viewers show it; None if the photograph cannot be read."""
        sizes = self.both(name)
        return sizes[1] if sizes else None

    def both(self, name: str) -> tuple[tuple[int, int], tuple[int, int]] | None:
        """(height, width) as it lies on disk, and as viewers show it; None if the photograph cannot be read."""
        if name not in self._known:
            self._known[name] = self._look(name)
        return self._known[name]

    def path(self, name: str) -> Path:
        """Where the photograph lies; where it would have to, if there is none."""
        return self._paths.get(name, self.folder / name)

    @property
    def readable(self) -> list[str]:
        """Names of all that were looked up and are sound so far."""
        return [name for name, sizes in self._known.items() if sizes]

    @property
    def looked_up(self) -> int:
        """Number of names."""
        return len(self._known)

    def spoil(self, name: str, problem: str) -> None:
        """Count a photograph as unreadable that was sound so far."""
        self._known[name] = None
        self._findings.add(UNREADABLE, self._blamed, f"{self.path(name)}, {problem}")

    def look_deep(self, names: Iterable[str], quiet: bool) -> None:
        """Say by which rule those of more than 8 bits a channel would be scaled."""
        sound = [self.path(name) for name in names if self._known[name]]
        depth_of_set(sound, Depth(), CollectedFaults(self._blamed, self._findings), quiet=quiet)

    def _look(self, name: str) -> tuple[tuple[int, int], tuple[int, int]] | None:
        try:
            self._paths[name] = find_photograph(self.folder, name, file=self._blamed, field="file_name")
            return image_sizes(self._paths[name], CollectedFaults(self._blamed, self._findings))
        except UserError as error:
            kind = UNREADABLE if self.path(name).exists() else MISSING
            self._findings.add(kind, self._blamed, f"{self.path(name)}, {error.problem}")
            return None


def check_sizes(path: Path, images: Iterable[ImageRecord], photos: PhotoSizes, findings: Findings, quiet: bool) -> None:
    """Compare every image entry with its photograph, which is opened but not decoded."""
    listed = list(images)
    for image in progress_bar(listed, desc="checking photographs", unit="img", quiet=quiet, leave=False):
        sizes = photos.both(image.file_name) if image.file_name else None
        if sizes is None or not image.height:
            continue
        raw, turned = sizes
        said = (image.height, image.width)
        example = f"{image.file_name} is {turned[1]} x {turned[0]}, the file says {image.width} x {image.height}"
        if said == turned:
            continue
        if said == raw:
            findings.add(_TURNED, path, example, of=len(listed))
        elif said == turned[::-1]:
            findings.add(SWAPPED_SIZE, path, example, of=len(listed))
        else:
            findings.add(OTHER_SIZE, path, example, of=len(listed))


def check_pixels(photos: PhotoSizes, at_most: int, quiet: bool) -> int:
    """Decode photographs, of many an even sample, and see how deep they are; the number decoded."""
    names = photos.readable
    chosen = [names[i] for i in np.unique(np.linspace(0, len(names) - 1, min(at_most, len(names))).astype(int))]
    for name in progress_bar(chosen, desc="decoding photographs", unit="img", quiet=quiet, leave=False):
        try:
            read_image(photos.path(name), None, None)
        except UserError as error:
            photos.spoil(name, error.problem)
    photos.look_deep(chosen, quiet)
    return len(chosen)


def check_unnamed(path: Path, photos: PhotoSizes, named: Sequence[str], findings: Findings) -> None:
    """Photographs that lie in the folder but are not in the file."""
    known = {photos.path(name) for name in named}
    others = [name for name in photographs_in(photos.folder)[0] if photos.folder / name not in known]
    if others:
        findings.add(_UNNAMED, path, others[0], count=len(others))
