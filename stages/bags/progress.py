"""What a run expects of itself before it starts, and how its time was spent."""

import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sapnet_pipe.data.bag_store.filesystem import Location

# Compressed bytes of a mask with its box and scores; on photographs of COCO's size (measured with the tiny SAM).
_MASK_BYTES = 300
_FEATURE_BYTES = 500


@dataclass(frozen=True, slots=True)
class Estimate:
    """What is still to be done.

    Args:
        images, points, shards: Without those that are there already.
        masks_per_point: At most.
        features: Whether each mask keeps its image features.
    """

    images: int
    points: int
    shards: int
    masks_per_point: int
    features: bool = False

    @property
    def bytes(self) -> int:
        """About how large their shards will be."""
        return self.points * self.masks_per_point * (_MASK_BYTES + _FEATURE_BYTES * self.features)

    def line(self, out: Location) -> str:
        """One line for people, with the space that is left on `out`'s disk if it is one."""
        left = free_bytes(out)
        space = "" if left is None else f" ({readable(left)} free)"
        work = f"{self.images} images, {self.points} points, {self.shards} shards"
        scarce = "; this may not fit on the disk" if left is not None and left < self.bytes else ""
        return f"to do: {work}; about {readable(self.bytes)} on disk{space}{scarce}"


@dataclass(frozen=True, slots=True)
class Rates:
    """How a run spent its time; None where it had nothing to do.

    Args:
        images_per_second: Of the images whose bags it made.
        encoder_share, decoder_share: Of its time, in [0, 1].
        host_share: The rest: what the device waited for images, RLEs and disks, and loading the weights.
    """

    images_per_second: float | None = None
    encoder_share: float | None = None
    decoder_share: float | None = None
    host_share: float | None = None


def rates(images: int, seconds: float, parts: Mapping[str, float]) -> Rates:
    """From the time that making `images` took and how much of it was "encoder" and "decoder"."""
    if not images or seconds <= 0:
        return Rates()
    encoder, decoder = (min(1.0, parts[name] / seconds) for name in ("encoder", "decoder"))
    host = max(0.0, 1 - encoder - decoder)
    return Rates(*(round(value, 4) for value in (images / seconds, encoder, decoder, host)))


def free_bytes(out: Location) -> int | None:
    """Free space where `out` is or will be; None if it is not on a disk of this machine."""
    if "://" in str(out):
        return None
    path = Path(out).absolute()
    there = next(folder for folder in (path, *path.parents) if folder.exists())
    return shutil.disk_usage(there).free


def readable(size: float) -> str:
    """Bytes in the unit that people would choose."""
    step = min(int(math.log(max(size, 1), 1000)), 4)
    return f"{size / 1000**step:.3g} {('B', 'kB', 'MB', 'GB', 'TB')[step]}"
