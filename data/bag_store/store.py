"""Reading a bag store: all boxes at once, or the masks of one image at a time."""

import hashlib
import itertools
from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sapnet_pipe.data.bag_store.contents import row_faults
from sapnet_pipe.data.bag_store.decoding import (
    Column,
    bag_table,
    bounds_of,
    column_of,
    decode_bags,
    is_want_of_memory,
    rles_of,
)
from sapnet_pipe.data.bag_store.filesystem import LocalFolder, Location, StoreFolder, store_folder
from sapnet_pipe.data.bag_store.manifest import MANIFEST, BagManifest, ShardEntry, read_manifest
from sapnet_pipe.data.bag_store.masks import FEATURE_COLUMN, RLE_COLUMN
from sapnet_pipe.data.bag_store.schema import SCHEMA, TABLE_COLUMNS, Bag, ShardLabel, is_shard_schema
from sapnet_pipe.data.bag_store.table import BagTable
from sapnet_pipe.data.coco.instances import Category, ImageRecord
from sapnet_pipe.data.coco.masks import check_counts
from sapnet_pipe.data.errors import UserError
from sapnet_pipe.data.files import disk_errors

Masks = dict[int, list[bytes]]  # point_id -> the COCO compressed RLEs of its bag
_COLUMNS = ("image_id", "point_id", RLE_COLUMN.name, "mask_area")  # what they are read from
_CONTENT_HINT = "Check the store with bags verify, and make it again from the points"
_HINT = "Move that shard away and run generate-bags again with the same settings, which makes only what is missing"
# Shards that are read at once: decoding is the work with those on a disk, waiting with those behind a URL.
_LOCAL_READERS, _REMOTE_READERS = 4, 16


class BagStore:
    """A finished bag store. Memory stays flat: shards are opened one by one, only `read_table` holds all rows.

    Attributes:
        folder: Path or URL of where it lies.
        manifest: What it says of itself.
    """

    def __init__(self, location: Location, manifest: BagManifest) -> None:
        self.folder, self.manifest = location, manifest
        self._files = store_folder(location)
        self._fingerprint = manifest.fingerprint
        self._opened: tuple[str, pq.ParquetFile] | None = None
        self._left_out: frozenset[int] = frozenset()

    @classmethod
    def open(cls, location: Location, *, expect_fingerprint: str | None = None, allow_part: bool = False) -> "BagStore":
        """Check the manifest and that every shard is there in full length; contents are checked as they are read.

        Args:
            location: Path or URL of the store's folder.
            allow_part: Whether a part of a store will do.
        Raises: UserError if the store is unfinished, damaged, of another version, or not the one expected.
        """
        folder = store_folder(location)
        manifest = read_manifest(folder)
        path = folder.at(MANIFEST)
        if expect_fingerprint is not None and manifest.fingerprint != expect_fingerprint:
            problem = f"but the store with the fingerprint {expect_fingerprint} is needed"
            raise UserError(path, "fingerprint", manifest.fingerprint, problem, "Give the store it was")
        if manifest.is_part and not allow_part:
            problem, hint = (
                f"but the store has {manifest.shards_total}: this is a part",
                "Join the parts with bags merge",
            )
            raise UserError(path, "shards", f"{len(manifest.shards)} shards", problem, hint)
        if not manifest.points:
            raise UserError(path, "points", 0, "so the store is empty", "Make it again with generate-bags")
        for entry in manifest.shards:
            _check_length(folder, entry)
        return cls(location, manifest)

    def without_images(self, image_ids: Iterable[int]) -> "BagStore":
        """The same store, whose table and masks do not have the points of these images."""
        store = BagStore(self.folder, self.manifest)
        store._left_out = frozenset(image_ids)
        return store

    @property
    def categories(self) -> tuple[Category, ...]:
        """Every category of the points file, by ascending id."""
        return self.manifest.categories

    @property
    def fingerprint(self) -> str:
        """Hash of all that decides the masks."""
        return self._fingerprint

    @property
    def rows_key(self) -> str:
        """Hash of all that decides what `read_table` gives: the fingerprint, and which images are left out."""
        if not self._left_out:
            return self._fingerprint
        return hashlib.sha256(f"{self._fingerprint} {sorted(self._left_out)}".encode()).hexdigest()

    @property
    def has_features(self) -> bool:
        """Whether SAM's image features of every mask are there to be read."""
        return FEATURE_COLUMN in self._column_names()

    def read_table(self) -> BagTable:
        """Every row without its RLEs. Raises: UserError naming a shard that cannot be read, or a row that is wrong."""
        try:
            table = bag_table(self._tables())
        except ValueError as error:
            problem = f"whose shards do not fit the schema ({error})"
            raise UserError(self.folder, "shards", MANIFEST, problem, _HINT) from error
        for fault in row_faults(table, self.categories):
            path, row = self._place(int(fault.rows[0]))
            point = f"point {table.point_id[fault.rows[0]]}"
            raise UserError(path, f"row {row}.{fault.field}", point, fault.problem, _CONTENT_HINT)
        return table.without_images(self._left_out) if self._left_out else table

    def read_column(self, name: str) -> Column:
        """One column alone, such as the boxes of every mask.

        Args:
            name: Of `schema.TABLE_COLUMNS`, or `FEATURE_COLUMN` in a store that was made with features.
        Raises: KeyError if there is no such column; UserError naming a shard that cannot be read.
        """
        if name not in (*TABLE_COLUMNS, FEATURE_COLUMN) or name not in self._column_names():
            raise KeyError(name)
        try:
            return column_of([table[name] for table in self._tables([name])])
        except ValueError as error:
            raise UserError(self.folder, name, MANIFEST, f"which is damaged ({error})", _CONTENT_HINT) from error

    def read_masks(self, image_id: int) -> Masks:
        """The bags of the points of one image; one small read.

        Raises: KeyError if the store has no such image; UserError if its shard cannot be read.
        """
        for found, masks in _by_image(*self._rows_about(image_id, _COLUMNS)):
            if found == image_id:
                return masks
        raise KeyError(image_id)

    def iter_masks(self) -> Iterator[tuple[int, Masks]]:
        """(image_id, masks as `read_masks`) of every image, in order."""
        for entry in self.manifest.shards:
            for group in range(self._file(entry).metadata.num_row_groups):
                for image_id, masks in _by_image(self._read(entry, _COLUMNS, group), self._files.at(entry.file)):
                    if image_id not in self._left_out:
                        yield image_id, masks

    def iter_bags(self) -> Iterator[Bag]:
        """Every bag with all that is known of it, in order; memory holds one shard."""
        for entry in self.manifest.shards:
            try:
                bags = decode_bags(self._files.read(entry.file), self.categories)
            except ValueError as error:
                _refuse(self._files.at(entry.file), error)
            for bag in bags:
                self.check_masks(bag.point_id, bag.masks.rle, bag.height, bag.width)
                yield bag

    def iter_images(self) -> Iterator[ImageRecord]:
        """Every image that has bags, by ascending id; the masks are not read."""
        for entry in self.manifest.shards:
            rows = self._read(entry, ("image_id", "file_name", "height", "width"))
            yield from dict.fromkeys(ImageRecord(*row.values()) for row in rows.to_pylist())

    def check_masks(self, point_id: int, rles: Iterable[bytes], height: int, width: int) -> None:
        """Check masks before they are used; all of a store are only checked by `bags verify`.

        Raises: UserError if one is not the RLE of a mask of that size.
        """
        try:
            for rle in rles:
                check_counts(rle, height, width)
        except ValueError as error:
            problem = f"a mask that cannot be read ({error})"
            raise UserError(self.folder, "mask_counts", f"point {point_id}", problem, _CONTENT_HINT) from error

    def _place(self, row: int) -> tuple[str, int]:
        """The shard of a row of the table, and its row there."""
        ends = np.cumsum([entry.rows for entry in self.manifest.shards])
        shard = min(int(np.searchsorted(ends, row, side="right")), len(ends) - 1)
        entry = self.manifest.shards[shard]
        return self._files.at(entry.file), row - int(ends[shard]) + entry.rows

    def _rows_about(self, image_id: int, columns: Sequence[str]) -> tuple[pa.Table, str]:
        """The row group that holds an image, with the rows of others, and its shard; KeyError if there is no such."""
        firsts = [entry.first_image_id for entry in self.manifest.shards]
        place = bisect_right(firsts, image_id) - 1
        if place >= 0:
            entry = self.manifest.shards[place]
            group = _group_of(self._file(entry), image_id)
            if group is not None:
                return self._read(entry, columns, group), self._files.at(entry.file)
        raise KeyError(image_id)

    def _column_names(self) -> list[str]:
        """The columns of every shard that has rows."""
        return list(self._file(next(entry for entry in self.manifest.shards if entry.rows)).schema_arrow.names)

    def _tables(self, columns: Sequence[str] = TABLE_COLUMNS) -> Iterator[pa.Table]:
        """Columns of every shard, in order; some shards are read ahead."""

        def table_of(entry: ShardEntry) -> pa.Table:
            return _read(open_shard(self._files, entry.file, self.fingerprint), self._files.at(entry.file), columns)

        filled = [entry for entry in self.manifest.shards if entry.rows]
        readers = _LOCAL_READERS if isinstance(self._files, LocalFolder) else _REMOTE_READERS
        with ThreadPoolExecutor(readers) as pool:
            ahead: deque[Future[pa.Table]] = deque()
            for entry in filled:
                ahead.append(pool.submit(table_of, entry))
                if len(ahead) > readers:
                    yield ahead.popleft().result()
            yield from (table.result() for table in ahead)

    def _read(self, entry: ShardEntry, columns: Sequence[str], group: int | None = None) -> pa.Table:
        return _read(self._file(entry), self._files.at(entry.file), columns, group)

    def _file(self, entry: ShardEntry) -> pq.ParquetFile:
        if self._opened is None or self._opened[0] != entry.file:
            self._opened = (entry.file, open_shard(self._files, entry.file, self.fingerprint))
        return self._opened[1]


def open_shard(folder: StoreFolder, name: str, fingerprint: str, content: bytes | None = None) -> pq.ParquetFile:
    """Open a shard and check its schema and label.

    Args:
        content: The shard's bytes, where they were read already.
    Raises: UserError if it is missing, damaged, of another schema, or belongs to another store.
    """
    path = folder.at(name)
    try:
        with disk_errors(path):
            source = folder.source(name) if content is None else pa.BufferReader(content)
            file = pq.ParquetFile(source, page_checksum_verification=True)
        label = ShardLabel.from_metadata(file.metadata.metadata)
    except (pa.ArrowException, OSError, ValueError) as error:
        _refuse(path, error)
    if not is_shard_schema(file.schema_arrow):
        raise UserError(path, "schema", file.schema_arrow.names, "not the columns of a bag shard", _HINT)
    if label.fingerprint != fingerprint:
        raise UserError(path, "fingerprint", label.fingerprint, "a shard of another store", _HINT)
    return file


def _read(file: pq.ParquetFile, path: str, columns: Sequence[str], group: int | None = None) -> pa.Table:
    try:
        if group is None:
            return file.read(columns=list(columns), use_threads=False)
        return file.read_row_group(group, columns=list(columns), use_threads=False)
    except (pa.ArrowException, OSError) as error:
        _refuse(path, error)


def _by_image(table: pa.Table, path: str) -> Iterator[tuple[int, Masks]]:
    try:
        offsets = bounds_of(table["mask_area"].combine_chunks())
        rles = rles_of(table, np.diff(offsets))
    except ValueError as error:
        _refuse(path, error)
    masks: Masks = {}
    current: int | None = None
    rows = zip(table["image_id"].to_pylist(), table["point_id"].to_pylist(), itertools.pairwise(offsets), strict=True)
    for image_id, point_id, (start, stop) in rows:
        if current is not None and image_id != current:
            yield current, masks
            masks = {}
        current, masks[point_id] = image_id, rles[start:stop]
    if current is not None:
        yield current, masks


def _group_of(file: pq.ParquetFile, image_id: int) -> int | None:
    column = SCHEMA.names.index("image_id")
    for group in range(file.metadata.num_row_groups):
        statistics = file.metadata.row_group(group).column(column).statistics
        if statistics.min <= image_id <= statistics.max:
            return group
    return None


def _check_length(folder: StoreFolder, entry: ShardEntry) -> None:
    path, size = folder.at(entry.file), folder.size(entry.file)
    if size is None:
        raise UserError(path, "shard", "missing", "but the manifest lists it", _HINT)
    if size != entry.bytes:
        problem = f"but the manifest says {entry.bytes}, so the shard is damaged"
        raise UserError(path, "bytes", size, problem, _HINT)


def _refuse(path: str, error: Exception) -> NoReturn:
    if is_want_of_memory(error):
        raise MemoryError(f"while {path} was read") from error
    raise UserError(path, "content", path, f"a damaged shard ({error})", _HINT) from error
