"""Checking a bag store to the last bit: checksums, schema, order, counts, and every mask against its box and area."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from tqdm import tqdm

from data.bag_choice import TOKENS
from data.bag_manifest import BagManifest, ShardEntry, read_manifest
from data.bag_schema import SCHEMA
from data.bag_store import open_shard
from data.bag_table import BagTable, bag_table
from data.errors import UserError
from data.files import disk_errors, sha256_file
from data.masks import check_counts, rle_area, rle_box

_PROMPTS = 4
_MEND = "Delete that shard and run generate-bags again with the same settings, which makes only what is missing"


@dataclass(frozen=True)
class VerifyReport:
    """What was checked and found whole."""

    store: Path
    shards: int
    images: int
    points: int
    masks: int
    bytes: int

    def to_dict(self) -> dict[str, Any]:
        """The same as plain values for JSON."""
        return asdict(self) | {"store": str(self.store)}


def verify(store: Path, *, quiet: bool = False) -> VerifyReport:
    """Check everything in a store; memory holds one shard at a time.

    Raises: UserError naming the first fault and counting the others.
    """
    manifest = read_manifest(store)
    faults = list(_unlisted(store, manifest))
    last = (-1, -1)
    for entry in tqdm(manifest.shards, desc="verifying", unit="shard", disable=quiet):
        try:
            table, counts = _read_whole(store / entry.file, entry, manifest.fingerprint)
        except UserError as fault:
            faults.append(fault)
            continue
        faults += _faults(_Shard(store / entry.file, entry, table, counts), manifest, last)
        last = (entry.last_image_id, int(table.point_id[-1]))
    if faults:
        first, others = faults[0], len(faults) - 1
        problem = f"{first.problem} (and {others} more faults)" if others else first.problem
        raise UserError(first.file, first.field, first.value, problem, first.mend)
    size = sum(entry.bytes for entry in manifest.shards)
    return VerifyReport(store, len(manifest.shards), manifest.images, manifest.points, manifest.masks, size)


@dataclass(frozen=True)
class _Shard:
    path: Path
    entry: ShardEntry
    table: BagTable
    counts: list[bytes]

    def fault(self, field: str, value: object, problem: str) -> UserError:
        return UserError(self.path, field, value, problem, _MEND)

    def row_fault(self, wrong: NDArray[np.bool_], field: str, problem: str) -> Iterator[UserError]:
        """One fault for all rows that are `wrong`, naming the first."""
        rows = np.flatnonzero(wrong)
        if len(rows):
            more = f" (and {len(rows) - 1} more rows)" if len(rows) > 1 else ""
            yield self.fault(f"row {rows[0]}.{field}", f"point {self.table.point_id[rows[0]]}", problem + more)

    def mask_fault(self, wrong: NDArray[np.bool_], field: str, problem: str) -> Iterator[UserError]:
        """One fault for all rows with a mask that is `wrong`, naming the first."""
        rows = np.zeros(len(self.table), bool)
        rows[np.searchsorted(self.table.offsets, np.flatnonzero(wrong), side="right") - 1] = True
        yield from self.row_fault(rows, field, problem)


def _unlisted(store: Path, manifest: BagManifest) -> Iterator[UserError]:
    listed = {entry.file for entry in manifest.shards}
    for path in sorted(store.glob("*.parquet")):
        if path.name not in listed:
            yield UserError(path, "shard", path.name, "which the manifest does not list", "Move it out of the store")


def _read_whole(path: Path, entry: ShardEntry, fingerprint: str) -> tuple[BagTable, list[bytes]]:
    """A shard whose bytes are those of the manifest, with its RLEs."""
    if not path.is_file():
        raise UserError(path, "shard", "missing", "but the manifest lists it", _MEND)
    digest = sha256_file(path)
    if digest != entry.sha256:
        raise UserError(path, "sha256", digest, f"but the manifest says {entry.sha256}", _MEND)
    file = open_shard(path, fingerprint)
    try:
        with disk_errors(path):
            content = file.read(use_threads=False)
        if any(_nulls(content[name].combine_chunks()) for name in SCHEMA.names):
            raise ValueError("a value is null")
        counts = content["mask_counts"].combine_chunks()
        table = bag_table([content])
        if len(table) == 0 or not np.array_equal(np.diff(counts.offsets), table.bag_sizes):
            raise ValueError("the lists of a bag are not of one length")
    except (pa.ArrowException, ValueError) as error:
        raise UserError(path, "content", path.name, f"not a bag shard ({error})", _MEND) from error
    return table, counts.flatten().to_pylist()


def _nulls(array: pa.Array) -> int:
    nested = pa.types.is_list(array.type) or pa.types.is_fixed_size_list(array.type)
    return int(array.null_count) + (_nulls(array.flatten()) if nested else 0)


def _faults(shard: _Shard, manifest: BagManifest, last: tuple[int, int]) -> Iterator[UserError]:
    table, entry = shard.table, shard.entry
    found = {
        "rows": len(table),
        "masks": len(table.score),
        "images": len(np.unique(table.image_id)),
        "first_image_id": int(table.image_id[0]),
        "last_image_id": int(table.image_id[-1]),
    }
    for name, value in found.items():
        if value != getattr(entry, name):
            yield shard.fault(name, value, f"but the manifest says {getattr(entry, name)}")
    if last[0] >= table.image_id[0]:
        yield shard.fault("row 0.image_id", int(table.image_id[0]), f"but the shard before ends with image {last[0]}")
    step, tie = np.diff(table.image_id), np.diff(table.point_id)
    unsorted = np.concatenate([[False], (step < 0) | ((step == 0) & (tie <= 0))])
    yield from shard.row_fault(unsorted, "point_id", "out of the order (image_id, point_id)")
    known = [category.category_id for category in manifest.categories]
    yield from shard.row_fault(~np.isin(table.category_id, known), "category_id", "not a category of the manifest")
    size = np.stack([table.width, table.height], axis=1)
    inside = np.asarray(((table.point_xy >= 0) & (table.point_xy < size)).all(axis=1))
    yield from shard.row_fault(~inside, "point", "outside its image")
    yield from shard.row_fault(table.bag_sizes == 0, "mask_counts", "an empty bag")
    yield from _mask_faults(shard)


def _mask_faults(shard: _Shard) -> Iterator[UserError]:
    table = shard.table
    row_of = np.repeat(np.arange(len(table)), table.bag_sizes)
    repeated = np.concatenate([[False], (np.diff(table.source) <= 0) & (np.diff(row_of) == 0)])
    yield from shard.mask_fault(repeated, "mask_source", "out of order within its bag")
    unknown = np.logical_or(table.source < 0, table.source >= _PROMPTS * TOKENS)
    yield from shard.mask_fault(unknown, "mask_source", "not a prompt and token of SAM")
    yield from shard.mask_fault(~np.isfinite(table.score), "mask_score", "not a finite number")
    yield from shard.mask_fault(~((table.stability >= 0) & (table.stability <= 1)), "mask_stability", "not within 0..1")
    broken, boxes, areas = (np.zeros(len(shard.counts), bool) for _ in range(3))
    for place, code in enumerate(shard.counts):
        height, width = int(table.height[row_of[place]]), int(table.width[row_of[place]])
        try:
            check_counts(code, height, width)
        except ValueError:
            broken[place] = True
            continue
        area = rle_area(code, height, width)
        areas[place] = area != table.area[place] or area == 0
        boxes[place] = not np.array_equal(rle_box(code, height, width), table.box_xyxy[place])
    yield from shard.mask_fault(broken, "mask_counts", "an RLE that does not decode to the size of its image")
    yield from shard.mask_fault(areas, "mask_area", "not the area of its RLE")
    yield from shard.mask_fault(boxes, "mask_box", "not the box of its RLE")
