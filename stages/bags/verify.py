"""Checking all of a bag store: checksums, schema, order, RLEs, and every mask against its box and area."""

import hashlib
import itertools
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sapnet_pipe.data.bag_store.contents import row_faults, rows_of_masks
from sapnet_pipe.data.bag_store.decoding import bag_table, rles_of
from sapnet_pipe.data.bag_store.filesystem import Location, StoreFolder, store_folder
from sapnet_pipe.data.bag_store.manifest import MANIFEST, BagManifest, ShardEntry, read_manifest
from sapnet_pipe.data.bag_store.schema import FailedImage, ShardLabel
from sapnet_pipe.data.bag_store.store import open_shard
from sapnet_pipe.data.bag_store.table import BagTable
from sapnet_pipe.data.coco.masks import rle_area_and_box
from sapnet_pipe.data.errors import UserError
from sapnet_pipe.data.progress import progress_bar

_HINT = "Move that shard away and run generate-bags again with the same settings, which makes only what is missing"


@dataclass(frozen=True)
class VerifyReport:
    """What was checked and found whole.

    Attributes:
        shards, shards_total: That are there, and of the whole store; more in a part of one.
        failed_images: Without bags because they could not be read.
    """

    store: Location
    shards: int
    shards_total: int
    images: int
    points: int
    masks: int
    failed_images: int
    bytes: int

    def to_dict(self) -> dict[str, Any]:
        """The same as plain values for JSON."""
        return asdict(self) | {"store": str(self.store)}


def verify(store: Location, *, quiet: bool = False) -> VerifyReport:
    """Check everything in a store, or in a part of one; memory holds one shard at a time.

    Raises: UserError naming the first fault and counting the others.
    """
    folder = store_folder(store)
    manifest = read_manifest(folder)
    faults = list(_unlisted(folder, manifest))
    failed: list[FailedImage] = []
    last: tuple[float, float] = (-math.inf, -math.inf)
    for entry in progress_bar(manifest.shards, desc="verifying", unit="shard", quiet=quiet):
        try:
            shard = _read_whole(folder, entry, manifest.fingerprint)
        except UserError as fault:
            faults.append(fault)
            continue
        faults += _faults(shard, manifest, last)
        failed += shard.label.failed
        if len(shard.table):
            last = (entry.last_image_id, int(shard.table.point_id[-1]))
    if not faults and tuple(failed) != manifest.failed:
        path, problem = folder.at(MANIFEST), f"but its shards have {len(failed)}, or other ones"
        faults.append(UserError(path, "failed", f"{len(manifest.failed)} images", problem, _HINT))
    if faults:
        first, others = faults[0], len(faults) - 1
        problem = f"{first.problem} (and {others} more faults)" if others else first.problem
        raise UserError(first.file, first.field, first.value, problem, first.hint)
    return VerifyReport(
        store=store,
        shards=len(manifest.shards),
        shards_total=manifest.shards_total,
        images=manifest.images,
        points=manifest.points,
        masks=manifest.masks,
        failed_images=len(manifest.failed),
        bytes=sum(entry.bytes for entry in manifest.shards),
    )


@dataclass(frozen=True)
class _Shard:
    path: str
    entry: ShardEntry
    label: ShardLabel
    table: BagTable
    rles: list[bytes]

    def fault(self, field: str, value: object, problem: str) -> UserError:
        return UserError(self.path, field, value, problem, _HINT)

    def row_fault(self, rows: NDArray[np.int64], field: str, problem: str) -> UserError:
        """One fault for all of these rows, naming the first."""
        more = f" (and {len(rows) - 1} more rows)" if len(rows) > 1 else ""
        return self.fault(f"row {rows[0]}.{field}", f"point {self.table.point_id[rows[0]]}", problem + more)

    def mask_fault(self, wrong: NDArray[np.bool_], field: str, problem: str) -> Iterator[UserError]:
        """One fault for all rows with a mask that is `wrong`, naming the first."""
        if wrong.any():
            yield self.row_fault(np.flatnonzero(rows_of_masks(self.table, wrong)), field, problem)


def _unlisted(folder: StoreFolder, manifest: BagManifest) -> Iterator[UserError]:
    listed = {entry.file for entry in manifest.shards}
    for name in folder.names():
        if name.endswith(".parquet") and name not in listed:
            hint = "Move it out of the store"
            yield UserError(folder.at(name), "shard", name, "which the manifest does not list", hint)


def _read_whole(folder: StoreFolder, entry: ShardEntry, fingerprint: str) -> _Shard:
    """A shard whose bytes are those of the manifest, with its RLEs."""
    path = folder.at(entry.file)
    if folder.size(entry.file) is None:
        raise UserError(path, "shard", "missing", "but the manifest lists it", _HINT)
    content = folder.read(entry.file)
    digest = hashlib.sha256(content).hexdigest()
    if digest != entry.sha256:
        raise UserError(path, "sha256", digest, f"but the manifest says {entry.sha256}", _HINT)
    file = open_shard(folder, entry.file, fingerprint, content)
    label = ShardLabel.from_metadata(file.metadata.metadata)
    try:
        rows = file.read(use_threads=False)
        table = bag_table([rows])
        if len(table) == 0 and not label.failed:
            raise ValueError("it is empty")
        rles = rles_of(rows, table.bag_sizes)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise UserError(path, "content", path, f"not a bag shard ({error})", _HINT) from error
    return _Shard(path, entry, label, table, rles)


def _faults(shard: _Shard, manifest: BagManifest, last: tuple[float, float]) -> Iterator[UserError]:
    table, entry = shard.table, shard.entry
    found = {"rows": len(table), "masks": len(table.masks), "images": len(np.unique(table.image_id))}
    if len(table):
        found |= {"first_image_id": int(table.image_id[0]), "last_image_id": int(table.image_id[-1])}
    for name, value in found.items():
        if value != getattr(entry, name):
            yield shard.fault(name, value, f"but the manifest says {getattr(entry, name)}")
    if not len(table):
        return
    if last[0] >= table.image_id[0]:
        yield shard.fault("row 0.image_id", int(table.image_id[0]), f"but the shard before ends with image {last[0]}")
    yield from itertools.starmap(shard.row_fault, row_faults(table, manifest.categories))
    yield from _mask_faults(shard)


def _mask_faults(shard: _Shard) -> Iterator[UserError]:
    table, masks = shard.table, shard.table.masks
    row_of = np.repeat(np.arange(len(table)), table.bag_sizes)
    broken, boxes, areas = (np.zeros(len(shard.rles), bool) for _ in range(3))
    for place, rle in enumerate(shard.rles):
        height, width = int(table.height[row_of[place]]), int(table.width[row_of[place]])
        try:
            area, box = rle_area_and_box(rle, height, width)
        except ValueError:
            broken[place] = True
            continue
        areas[place] = area != masks.area[place] or area == 0
        boxes[place] = not np.array_equal(box, masks.box_xyxy[place])
    yield from shard.mask_fault(broken, "mask_counts", "an RLE that does not decode to the size of its image")
    yield from shard.mask_fault(areas, "mask_area", "not the area of its RLE")
    yield from shard.mask_fault(boxes, "mask_box", "not the box of its RLE")
