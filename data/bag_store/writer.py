"""Writing a bag store shard by shard, so that a run killed at any moment goes on where it stood."""

import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from sapnet_pipe.data.bag_store.decoding import WholeShard, decode_bags, read_shard
from sapnet_pipe.data.bag_store.filesystem import Location, StoreFolder, store_folder
from sapnet_pipe.data.bag_store.manifest import (
    MANIFEST,
    PARTIAL_MANIFEST,
    BagIdentity,
    BagManifest,
    read_identity,
    read_manifest,
    refuse_other_identity,
    write_manifest,
    write_partial_manifest,
)
from sapnet_pipe.data.bag_store.schema import Bag, FailedImage, ShardLabel, encode_shard
from sapnet_pipe.data.coco.instances import Category
from sapnet_pipe.data.errors import UserError
from sapnet_pipe.data.folder_lock import is_own


def shard_name(index: int) -> str:
    """File name of shard `index`."""
    return f"bags-{index:05d}.parquet"


def unfinished_name(index: int) -> str:
    """File name of what is finished of shard `index` while it is made."""
    return f"unfinished-{index:05d}.parquet"


class BagWriter:
    """Writes one store; its shards are the only record of what is done.

    A shard is written whole under its final name and carries the fingerprint and its place, so a restart keeps every
    shard that is there and makes the others. `manifest.json` comes last. The first images of a shard that is being made
    may lie beside it, in a file of the same form, from which a restart goes on. Get one from `open_writer`.

    Attributes:
        manifest: Of the store if nothing is left to do, else None.
        set_aside: Damaged shards of the interrupted run, which are made again, under the names that they have now.
    """

    def __init__(
        self,
        folder: StoreFolder,
        identity: BagIdentity,
        categories: Sequence[Category],
        shards: int,
        wanted: Iterable[int] | None = None,
        *,
        reopen: bool = False,
    ) -> None:
        self.folder, self.identity, self.categories = folder, identity, tuple(categories)
        self.manifest: BagManifest | None = None
        self.set_aside: list[str] = []
        self._shards = shards
        self._wanted = sorted(range(shards) if wanted is None else wanted)
        self._done: dict[int, WholeShard] = {}
        self._begun: dict[int, WholeShard] = {}
        self._reopened = False
        self._resume(reopen)

    @property
    def missing(self) -> list[int]:
        """The shards still to be made, in order; none once the store is finished."""
        return [] if self.manifest else [index for index in self._wanted if index not in self._done]

    @property
    def failed(self) -> dict[int, tuple[FailedImage, ...]]:
        """The images that could not be read, by shard, of the shards that are there, finished or not."""
        there = {**self._begun, **self._done}
        return {index: shard.label.failed for index, shard in sorted(there.items()) if shard.label.failed}

    @property
    def has_shards(self) -> bool:
        """Whether any shard, finished or not, is known to be there."""
        return bool(self._done or self._begun)

    def begun_until(self, index: int) -> int | None:
        """The id of the last image of a shard that is not finished whose bags are there; None if it is not begun."""
        shard = self._begun.get(index)
        if shard is None:
            return None
        return max([shard.entry.last_image_id, *(image.image_id for image in shard.label.failed)])

    def write_shard(
        self, index: int, bags: Sequence[Bag], dropped: Mapping[str, int], failed: Sequence[FailedImage] = ()
    ) -> None:
        """Write one shard: there whole or not at all; one that is there is replaced.

        Args:
            index: Its place; image ids rise from shard to shard.
            bags: Sorted by (image_id, point_id), every image whole; at least one if no image failed.
            dropped: What was left out while these bags were made, by reason.
            failed: Its images that could not be read.
        """
        self.add_encoded(index, encode_bags(index, bags, dropped, failed, self.identity.fingerprint()))

    def add_encoded(self, index: int, content: bytes) -> None:
        """Write one shard from its bytes, as `encode_bags` made them here or elsewhere.

        Raises: ValueError if they are not those of shard `index` of this store.
        """
        shard = read_shard(content, shard_name(index))
        if (shard.label.fingerprint, shard.label.index) != (self.identity.fingerprint(), index):
            raise ValueError(f"shard {index}: the bytes are those of another shard")
        if self._reopened:
            self._unfinish()
        self.folder.write(shard_name(index), content)
        self._done[index] = shard
        self._forget(index)

    def keep_unfinished(self, index: int, content: bytes) -> None:
        """Write what is finished of a shard: its images up to one of them, as `encode_bags` made them."""
        name = unfinished_name(index)
        shard = read_shard(content, name)
        self.folder.write(name, content)
        self._begun[index] = shard

    def read_bags(self, index: int) -> tuple[list[Bag], ShardLabel]:
        """The bags of a shard that is there, finished or not, and its label."""
        name, there = (shard_name, self._done) if index in self._done else (unfinished_name, self._begun)
        return decode_bags(self.folder.read(name(index)), self.categories), there[index].label

    def finish(self, dropped: Mapping[str, int]) -> BagManifest:
        """Write the manifest; `dropped` is what was left out before any bag was made.

        Raises: ValueError if a shard is still missing.
        """
        if self.missing:
            raise ValueError(f"shards {self.missing[:5]} are not written yet")
        counts = Counter(dropped)
        shards = [self._done[index] for index in sorted(self._done)]
        for shard in shards:
            counts.update(shard.label.dropped)
        self.manifest = BagManifest(
            self.identity,
            self.categories,
            dict(sorted(counts.items())),
            dict(sorted(dropped.items())),
            tuple(shard.entry for shard in shards),
            self._shards,
            tuple(image for shard in shards for image in shard.label.failed),
        )
        write_manifest(self.folder, self.manifest)
        self.folder.remove(PARTIAL_MANIFEST)
        return self.manifest

    def _resume(self, reopen: bool) -> None:
        names = self.folder.names()
        found = read_identity(self.folder)
        if found is not None:
            refuse_other_identity(str(self.folder), found, self.identity)
        if MANIFEST in names:
            manifest = read_manifest(self.folder)
            if not reopen and self._is_all_there(manifest):
                self.manifest = manifest
                self.folder.remove(PARTIAL_MANIFEST)
                return
            self._reopened = self._is_all_there(manifest)
        shards = {name: self._read(name) for name in names if is_shard_name(name)}
        if found is None and not any(shards.values()):  # a store without a manifest is known by its shards
            _refuse_other_files(self.folder, names)
        if not self._reopened or None in shards.values():
            self._unfinish()
        for name, shard in shards.items():
            if shard is None:
                self.set_aside.append(self.folder.set_aside(name))
            else:
                self._done[shard.label.index] = shard
        self._resume_unfinished(names)

    def _resume_unfinished(self, names: Iterable[str]) -> None:
        for name in names:
            if _UNFINISHED.fullmatch(name) is None:
                continue
            shard = self._read(name, unfinished_name)
            if shard is None:
                self.set_aside.append(self.folder.set_aside(name))
            elif shard.label.index in self._done:
                self.folder.remove(name)
            else:
                self._begun[shard.label.index] = shard

    def _forget(self, index: int) -> None:
        """Remove what was kept of a shard that is finished now."""
        if self._begun.pop(index, None) is not None:
            self.folder.remove(unfinished_name(index))

    def _unfinish(self) -> None:
        """From here on the store is not finished."""
        write_partial_manifest(self.folder, self.identity)
        self.folder.remove(MANIFEST)
        self._reopened = False

    def _is_all_there(self, manifest: BagManifest) -> bool:
        listed = {entry.file: entry.bytes for entry in manifest.shards}
        wanted = {shard_name(index) for index in self._wanted}
        return wanted <= listed.keys() and all(self.folder.size(name) == size for name, size in listed.items())

    def _read(self, name: str, name_of: Callable[[int], str] = shard_name) -> WholeShard | None:
        """A shard of the interrupted run; None if all of it was read, and is damaged.

        Raises: UserError for a shard of another store; MemoryError, which says nothing of the shard.
        """
        try:
            content = self.folder.read(name)
            shard = read_shard(content, name)
            if name_of is unfinished_name:  # whose bags will be taken into a shard
                decode_bags(content, self.categories)
        except ValueError:
            return None
        label = shard.label
        mine = label.fingerprint == self.identity.fingerprint() and name == name_of(label.index)
        if not mine or label.index not in range(self._shards):
            place, problem = self.folder.at(name), "a shard of another store"
            raise UserError(place, "fingerprint", label.fingerprint, problem, "Move it away, or choose another --out")
        return shard


def encode_bags(
    index: int, bags: Sequence[Bag], dropped: Mapping[str, int], failed: Sequence[FailedImage], fingerprint: str
) -> bytes:
    """The bytes of one shard; the same values give the same bytes on every machine.

    Args: as `BagWriter.write_shard`; fingerprint: of the store's identity.
    Raises: ValueError if there is neither a bag nor a failed image, or the bags are not sorted.
    """
    keys = [(bag.image_id, bag.point_id) for bag in bags]
    if not (keys or failed) or any(first >= second for first, second in itertools.pairwise(keys)):
        raise ValueError(f"shard {index}: bags must be there, sorted by (image_id, point_id), each once")
    in_order = tuple(sorted(failed, key=lambda image: image.image_id))
    return encode_shard(bags, ShardLabel(fingerprint, index, dropped, in_order))


_UNFINISHED = re.compile(r"unfinished-\d{5,}\.parquet")


def is_shard_name(name: str) -> bool:
    """Whether a file in a store's folder is a shard by its name."""
    return re.fullmatch(r"bags-\d{5,}\.parquet", name) is not None


def _is_work(name: str) -> bool:
    return is_shard_name(name) or _UNFINISHED.fullmatch(name) is not None


def _refuse_other_files(folder: StoreFolder, names: Sequence[str]) -> None:
    """Raises: UserError if a folder that holds no store holds anything else."""
    others = [name for name in names if not is_own(name)]
    if others:
        problem = "so the folder holds something that is not a bag store"
        raise UserError(str(folder), "content", others[0], problem, "Choose a new or an empty folder")


@contextmanager
def open_writer(
    location: Location,
    identity: BagIdentity,
    categories: Sequence[Category],
    shards: int,
    wanted: Iterable[int] | None = None,
    *,
    reopen: bool = False,
) -> Iterator[BagWriter]:
    """Hold the folder, created if needed, and yield a writer; a run that fails before its first shard leaves no trace.

    Args:
        location: Path or URL of the store's folder.
        shards: Of the whole store.
        wanted: The shards that this run is to make; all if None. With fewer it ends as a part of a store.
        reopen: Take a finished store as one whose shards may be replaced; it stays finished until the first one is.
    Raises: UserError if another process writes there, another store or other files are there, or it is not writable.
    """
    folder = store_folder(location)
    with folder.held():
        writer = BagWriter(folder, identity, categories, shards, wanted, reopen=reopen)
        try:
            yield writer
        finally:
            # The files on the disk decide: an interruption may come between a shard's renaming and its entry here.
            if writer.manifest is None and not writer.has_shards and not any(map(_is_work, folder.names())):
                folder.remove(PARTIAL_MANIFEST)
