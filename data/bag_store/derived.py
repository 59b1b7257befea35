"""Stores made from other stores: the parts of one joined, or the masks of the point prompt alone.

Either goes on where it was interrupted.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from sapnet_pipe.data.bag_store.filesystem import Location, StoreFolder, store_folder
from sapnet_pipe.data.bag_store.manifest import MANIFEST, BagManifest, ShardEntry, read_manifest, refuse_other_identity
from sapnet_pipe.data.bag_store.masks import TOKENS
from sapnet_pipe.data.bag_store.schema import Bag
from sapnet_pipe.data.bag_store.store import BagStore
from sapnet_pipe.data.bag_store.writer import open_writer, shard_name
from sapnet_pipe.data.errors import UserError
from sapnet_pipe.data.progress import progress_bar

_MAKE_PARTS = "Merge parts that generate-bags made of the same points and settings with --set part=K/N"


@dataclass(frozen=True)
class MergeSummary:
    """What was joined.

    Attributes:
        repeated_shards: Were in more than one part, byte for byte the same.
        shards_made: Copied by this run; the others were in the store already.
    """

    out: Location
    parts: int
    shards: int
    shards_made: int
    repeated_shards: int
    images: int
    points: int
    masks: int
    failed_images: int
    bytes: int


def merge_stores(parts: Sequence[Location], out: Location, *, quiet: bool = False) -> MergeSummary:
    """Copy the shards of finished parts into one store; its bytes are those of an undivided run.

    Every shard is checked against its checksum as it is copied. An interrupted merge goes on where it stood.

    Raises: UserError if a part is not finished or damaged, they are of different runs, shards are missing, or two
        parts have different bytes for one shard.
    """
    if any(str(store_folder(part)) == str(store_folder(out)) or _same_folder(part, out) for part in parts):
        hint = "Choose a new folder: a part stays as it is"
        raise UserError("bags merge", "--out", str(out), "which is one of the parts", hint)
    opened = [_open(location) for location in parts]
    if not opened:
        raise UserError("bags merge", "parts", 0, "so there is nothing to merge", "Give at least one part")
    first = opened[0]
    for part in opened[1:]:
        _check_fit(part, first)
    chosen, repeated = _choose(opened)
    identity, total = first.manifest.identity, first.manifest.shards_total
    with open_writer(out, identity, first.manifest.categories, total) as writer:
        missing = writer.missing
        for index in progress_bar(missing, desc="merging", unit="shard", quiet=quiet):
            part, entry = chosen[index]
            writer.add_encoded(index, _checked_content(part, entry))
        manifest = writer.manifest or writer.finish(first.manifest.dropped_before)
    return MergeSummary(
        out=out,
        parts=len(opened),
        shards=total,
        shards_made=len(missing),
        repeated_shards=repeated,
        images=manifest.images,
        points=manifest.points,
        masks=manifest.masks,
        failed_images=len(manifest.failed),
        bytes=sum(entry.bytes for entry in manifest.shards),
    )


def write_point_masks(store: BagStore, out: Path) -> BagStore:
    """Write the masks of `store` that SAM gave for the point alone into the folder `out`, or open what is there.

    A bag without such a mask stays as it is, so that both stores have the same points. Images that could not be read
    are not listed again.

    Raises: UserError if another store is there, a shard cannot be read, or the folder cannot be written.
    """
    manifest = store.manifest
    settings = {**manifest.identity.recipe_settings, "filter": "point prompt alone", "of": store.fingerprint}
    identity = replace(manifest.identity, recipe_settings=settings)
    filled = [entry for entry in manifest.shards if entry.rows]
    with open_writer(out, identity, manifest.categories, len(filled)) as writer:
        missing = set(writer.missing)
        bags = store.iter_bags() if missing else iter(())
        for index, entry in enumerate(filled if missing else ()):
            shard = list(islice(bags, entry.rows))
            if index in missing:
                kept = [_point_masks(bag) for bag in shard]
                left_out = sum(len(bag.masks) for bag in shard) - sum(len(bag.masks) for bag in kept)
                writer.write_shard(index, kept, {"later_prompt": left_out} if left_out else {})
        if writer.manifest is None:
            writer.finish(manifest.dropped_before)
    return BagStore.open(out)


def _point_masks(bag: Bag) -> Bag:
    """The bag with the masks of prompt 0 alone; unchanged if it has none."""
    alone = bag.masks.source < TOKENS
    return replace(bag, masks=bag.masks.take(alone)) if alone.any() else bag


def _same_folder(first: Location, second: Location) -> bool:
    """Whether two paths lead to one folder on this machine."""
    try:
        return Path(first).samefile(second)
    except OSError:  # one is not there, or is a URL
        return False


@dataclass(frozen=True)
class _Part:
    folder: StoreFolder
    manifest: BagManifest


def _open(location: Location) -> _Part:
    folder = store_folder(location)
    return _Part(folder, read_manifest(folder))


def _check_fit(part: _Part, first: _Part) -> None:
    identity, wanted = part.manifest.identity, first.manifest.identity
    problem = f"but {first.folder} was made with another, and the parts of one store agree in it"
    refuse_other_identity(str(part.folder), identity, wanted, problem=problem, hint=_MAKE_PARTS)
    for field in ("categories", "dropped_before", "shards_total"):
        if getattr(part.manifest, field) != getattr(first.manifest, field):
            raise _unfit(part, field, getattr(part.manifest, field))


def _choose(parts: Sequence[_Part]) -> tuple[dict[int, tuple[_Part, ShardEntry]], int]:
    """The part that each shard is taken from, by index, and how many were there twice."""
    total = parts[0].manifest.shards_total
    places = {shard_name(index): index for index in range(total)}
    chosen: dict[int, tuple[_Part, ShardEntry]] = {}
    repeated = 0
    for part in parts:
        for entry in part.manifest.shards:
            if entry.file not in places:
                raise _unfit(part, "shards", entry.file)
            before = chosen.setdefault(places[entry.file], (part, entry))
            if before[0] is not part:
                repeated += 1
                if before[1].sha256 != entry.sha256:
                    problem = f"but {before[0].folder} has other bytes for it"
                    hint = "Leave out the part that is wrong, or make it again"
                    raise UserError(part.folder.at(entry.file), "sha256", entry.sha256, problem, hint)
    lacking = [index for index in range(total) if index not in chosen]
    if lacking:
        problem = f"shards of the store are in none of the parts, first {shard_name(lacking[0])}"
        hint = "Give the part that has them, or make it with generate-bags --set part=K/N"
        raise UserError("bags merge", "parts", f"{len(lacking)} of {total}", problem, hint)
    return chosen, repeated


def _checked_content(part: _Part, entry: ShardEntry) -> bytes:
    path, content = part.folder.at(entry.file), part.folder.read(entry.file)
    digest = hashlib.sha256(content).hexdigest()
    if digest != entry.sha256:
        hint = "Make that part again: move the shard away and run its generate-bags again"
        raise UserError(path, "sha256", digest, f"but the manifest says {entry.sha256}", hint)
    return content


def _unfit(part: _Part, field: str, value: object) -> UserError:
    return UserError(part.folder.at(MANIFEST), field, value, "which does not fit the other parts", _MAKE_PARTS)
