"""Writing a bag store shard by shard, so that a run killed at any moment goes on where it stood."""

import hashlib
import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from data.bag_folder import locked_folder, refuse_other_files, remove_leftovers
from data.bag_manifest import (
    MANIFEST,
    PARTIAL_MANIFEST,
    BagIdentity,
    BagManifest,
    ShardEntry,
    read_identity,
    read_manifest,
    refuse_other_identity,
    write_manifest,
    write_partial_manifest,
)
from data.bag_schema import SCHEMA, Bag, ShardLabel, encode_shard
from data.coco import Category
from data.errors import UserError
from data.files import disk_errors, write_bytes


def shard_name(index: int) -> str:
    """File name of shard `index`."""
    return f"bags-{index:05d}.parquet"


class BagWriter:
    """Writes one store; the shards themselves are the journal of what is done.

    A shard is written whole under its final name and carries the fingerprint and its place, so a restart keeps every
    shard that is there and makes the others. `manifest.json` comes last. Get one from `open_writer`.
    """

    def __init__(self, folder: Path, identity: BagIdentity, categories: Sequence[Category], shards: int) -> None:
        self.folder, self.identity, self.categories = folder, identity, tuple(categories)
        self.manifest: BagManifest | None = None
        self._labels: dict[int, ShardLabel] = {}
        self._entries: dict[int, ShardEntry] = {}
        self._shards = shards
        self._resume()

    @property
    def missing(self) -> list[int]:
        """The shards still to be made, in order; none once the store is finished."""
        return [] if self.manifest else [index for index in range(self._shards) if index not in self._entries]

    def write_shard(self, index: int, bags: Sequence[Bag], dropped: Mapping[str, int]) -> None:
        """Write one shard: there whole or not at all.

        Args:
            index: Its place; image ids rise from shard to shard.
            bags: Sorted by (image_id, point_id), every image whole; at least one.
            dropped: What was left out while these bags were made, by reason.
        """
        keys = [(bag.image_id, bag.point_id) for bag in bags]
        if not keys or any(first >= second for first, second in itertools.pairwise(keys)):
            raise ValueError(f"shard {index}: bags must be there, sorted by (image_id, point_id), each once")
        label = ShardLabel(self.identity.fingerprint(), index, dropped)
        content = encode_shard(bags, label)
        write_bytes(self.folder / shard_name(index), content)
        self._labels[index] = label
        image_ids = [image_id for image_id, _ in keys]
        self._entries[index] = _entry(index, content, image_ids, sum(len(bag.counts) for bag in bags))

    def finish(self, dropped: Mapping[str, int]) -> BagManifest:
        """Write the manifest; `dropped` is what was left out before any bag was made.

        Raises: ValueError if a shard is still missing.
        """
        if self.missing:
            raise ValueError(f"shards {self.missing[:5]} are not written yet")
        counts = Counter(dropped)
        for label in self._labels.values():
            counts.update(label.dropped)
        entries = tuple(self._entries[index] for index in range(self._shards))
        self.manifest = BagManifest(self.identity, self.categories, dict(sorted(counts.items())), entries)
        write_manifest(self.folder, self.manifest)
        (self.folder / PARTIAL_MANIFEST).unlink(missing_ok=True)
        return self.manifest

    def _resume(self) -> None:
        found = read_identity(self.folder)
        if found is not None:
            refuse_other_identity(self.folder, found, self.identity)
        if (self.folder / MANIFEST).is_file():
            manifest = read_manifest(self.folder)
            if all(_is_whole(self.folder / entry.file, entry.bytes) for entry in manifest.shards):
                self.manifest = manifest
                (self.folder / PARTIAL_MANIFEST).unlink(missing_ok=True)
                return
        if found is None:
            refuse_other_files(self.folder)
        write_partial_manifest(self.folder, self.identity)
        (self.folder / MANIFEST).unlink(missing_ok=True)
        for path in sorted(self.folder.glob("bags-*.parquet")):
            self._keep(path)

    def _keep(self, path: Path) -> None:
        """Take a shard of the interrupted run; one that cannot be read is removed and made again."""
        with disk_errors(path):
            content = path.read_bytes()
        try:
            table = pq.read_table(pa.BufferReader(content), page_checksum_verification=True)
            label = ShardLabel.from_metadata(table.schema.metadata)
        except (pa.ArrowException, OSError, ValueError):
            path.unlink()
            return
        if label.fingerprint != self.identity.fingerprint() or path.name != shard_name(label.index):
            problem = "a shard of another store"
            raise UserError(path, "fingerprint", label.fingerprint, problem, "Move it away, or choose another --out")
        if not table.schema.equals(SCHEMA) or not 0 <= label.index < self._shards:
            path.unlink()
            return
        masks = len(table["mask_area"].combine_chunks().flatten())
        self._labels[label.index] = label
        self._entries[label.index] = _entry(label.index, content, table["image_id"].to_pylist(), masks)


def _is_whole(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


def _entry(index: int, content: bytes, image_ids: Sequence[int], masks: int) -> ShardEntry:
    return ShardEntry(
        file=shard_name(index),
        images=len(set(image_ids)),
        rows=len(image_ids),
        masks=masks,
        first_image_id=image_ids[0],
        last_image_id=image_ids[-1],
        bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
    )


@contextmanager
def open_writer(
    folder: Path, identity: BagIdentity, categories: Sequence[Category], shards: int
) -> Iterator[BagWriter]:
    """Lock `folder`, made if need be, and yield a writer; a run that fails before its first shard leaves no trace.

    Raises: UserError if another process writes there, another store or other files are there, or it is not writable.
    """
    with locked_folder(folder):
        remove_leftovers(folder)
        writer = BagWriter(folder, identity, categories, shards)
        try:
            yield writer
        finally:
            # What lies on disk counts: an interruption may come between a shard's renaming and its entry.
            if writer.manifest is None and not any(folder.glob("bags-*.parquet")):
                (folder / PARTIAL_MANIFEST).unlink(missing_ok=True)
