"""Reading a bag store: all boxes at once, or the masks of one image at a time."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

import pyarrow as pa
import pyarrow.parquet as pq

from data.bag_manifest import MANIFEST, BagManifest, ShardEntry, read_manifest
from data.bag_schema import MASK_COLUMNS, SCHEMA, TABLE_COLUMNS, ShardLabel
from data.bag_table import BagTable, bag_table
from data.coco import Category
from data.errors import UserError
from data.files import disk_errors

Masks = dict[int, list[bytes]]
_MEND = "Delete that shard and run generate-bags again with the same settings, which makes only what is missing"


class BagStore:
    """A finished bag store. Memory stays flat: shards are opened one by one, only `read_table` holds all rows."""

    def __init__(self, folder: Path, manifest: BagManifest) -> None:
        self.folder, self.manifest = folder, manifest
        self._opened: tuple[str, pq.ParquetFile] | None = None

    @classmethod
    def open(cls, path: Path, *, expect_fingerprint: str | None = None) -> "BagStore":
        """Check the manifest and that every shard is there in full length; contents are checked as they are read.

        Raises: UserError if the store is unfinished, damaged, of another version, or not the one expected.
        """
        manifest = read_manifest(path)
        if expect_fingerprint is not None and manifest.fingerprint != expect_fingerprint:
            problem = f"but the store with the fingerprint {expect_fingerprint} is needed"
            raise UserError(path / MANIFEST, "fingerprint", manifest.fingerprint, problem, "Give the store it was")
        if not manifest.shards:
            raise UserError(path / MANIFEST, "shards", [], "so the store is empty", "Make it again with generate-bags")
        for entry in manifest.shards:
            _check_length(path / entry.file, entry)
        return cls(path, manifest)

    @property
    def categories(self) -> tuple[Category, ...]:
        """Every category of the points file, by ascending id."""
        return self.manifest.categories

    @property
    def fingerprint(self) -> str:
        """Hash of all that decides the masks."""
        return self.manifest.fingerprint

    def read_table(self) -> BagTable:
        """Every row without its masks. Raises: UserError naming a shard that cannot be read."""
        shards = (self._read(entry, TABLE_COLUMNS) for entry in self.manifest.shards)
        try:
            return bag_table(shards)
        except ValueError as error:
            problem = f"whose shards do not fit the schema ({error})"
            raise UserError(self.folder, "shards", MANIFEST, problem, _MEND) from error

    def read_masks(self, image_id: int) -> Masks:
        """point_id -> COCO compressed counts of its bag, for the points of one image; one small read.

        Raises: KeyError if the store has no such image; UserError if its shard cannot be read.
        """
        firsts = [entry.first_image_id for entry in self.manifest.shards]
        place = bisect_right(firsts, image_id) - 1
        if place >= 0:
            entry = self.manifest.shards[place]
            file = self._file(entry)
            group = _group_of(file, image_id)
            if group is not None:
                for found, masks in _by_image(self._read(entry, MASK_COLUMNS, group)):
                    if found == image_id:
                        return masks
        raise KeyError(image_id)

    def iter_masks(self) -> Iterator[tuple[int, Masks]]:
        """(image_id, masks as `read_masks`) of every image, in order."""
        for entry in self.manifest.shards:
            for group in range(self._file(entry).metadata.num_row_groups):
                yield from _by_image(self._read(entry, MASK_COLUMNS, group))

    def _read(self, entry: ShardEntry, columns: Sequence[str], group: int | None = None) -> pa.Table:
        file = self._file(entry)
        try:
            if group is None:
                return file.read(columns=list(columns), use_threads=False)
            return file.read_row_group(group, columns=list(columns), use_threads=False)
        except (pa.ArrowException, OSError) as error:
            _refuse(self.folder / entry.file, error)

    def _file(self, entry: ShardEntry) -> pq.ParquetFile:
        if self._opened is None or self._opened[0] != entry.file:
            self._opened = (entry.file, open_shard(self.folder / entry.file, self.fingerprint))
        return self._opened[1]


def open_shard(path: Path, fingerprint: str) -> pq.ParquetFile:
    """Open a shard and check its schema and label.

    Raises: UserError if it is missing, damaged, of another schema, or belongs to another store.
    """
    try:
        with disk_errors(path):
            file = pq.ParquetFile(path, page_checksum_verification=True)
        label = ShardLabel.from_metadata(file.metadata.metadata)
    except (pa.ArrowException, OSError, ValueError) as error:
        _refuse(path, error)
    if not file.schema_arrow.equals(SCHEMA):
        raise UserError(path, "schema", file.schema_arrow.names, "not the columns of a bag shard", _MEND)
    if label.fingerprint != fingerprint:
        raise UserError(path, "fingerprint", label.fingerprint, "a shard of another store", _MEND)
    return file


def _by_image(table: pa.Table) -> Iterator[tuple[int, Masks]]:
    masks: Masks = {}
    current: int | None = None
    for image_id, point_id, counts in zip(*(table[name].to_pylist() for name in MASK_COLUMNS), strict=True):
        if current is not None and image_id != current:
            yield current, masks
            masks = {}
        current, masks[point_id] = image_id, counts
    if current is not None:
        yield current, masks


def _group_of(file: pq.ParquetFile, image_id: int) -> int | None:
    column = SCHEMA.names.index("image_id")
    for group in range(file.metadata.num_row_groups):
        statistics = file.metadata.row_group(group).column(column).statistics
        if statistics.min <= image_id <= statistics.max:
            return group
    return None


def _check_length(path: Path, entry: ShardEntry) -> None:
    if not path.is_file():
        raise UserError(path, "shard", "missing", "but the manifest lists it", _MEND)
    if path.stat().st_size != entry.bytes:
        problem = f"but the manifest says {entry.bytes}, so the shard is damaged"
        raise UserError(path, "bytes", path.stat().st_size, problem, _MEND)


def _refuse(path: Path, error: Exception) -> NoReturn:
    raise UserError(path, "content", path.name, f"a damaged shard ({error})", _MEND) from error
