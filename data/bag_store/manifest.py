"""What a bag store says of itself: all that decides its masks, its shards, and whether it is finished."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from sapnet_pipe.data.bag_store.filesystem import StoreFolder
from sapnet_pipe.data.bag_store.schema import SCHEMA_VERSION, FailedImage
from sapnet_pipe.data.coco.instances import Category
from sapnet_pipe.data.errors import UserError
from sapnet_pipe.data.files import json_bytes, parse_json
from sapnet_pipe.data.pixel_depth import Depth

MANIFEST = "manifest.json"
PARTIAL_MANIFEST = "manifest.partial.json"
_JSON_TYPES = {"recipe_settings": dict, "shard_images": int, "schema_version": int}


@dataclass(frozen=True, slots=True)
class BagIdentity:
    """All that decides the masks of a store.

    Args:
        sam_model: Name of the SAM architecture.
        checkpoint_sha256: Of the weights file.
        recipe: Name of the prompt recipe.
        recipe_settings: The recipe's constants, JSON values.
        precision: Arithmetic of the forward passes.
        points_sha256: Of the points file.
        shard_images: Images per shard.
    """

    sam_model: str
    checkpoint_sha256: str
    recipe: str
    recipe_settings: Mapping[str, Any]
    precision: str
    points_sha256: str
    shard_images: int
    schema_version: int = SCHEMA_VERSION

    @property
    def depth(self) -> Depth:
        """How photographs of more than 8 bits a channel were scaled. Raises: UserError if it is none."""
        return Depth.recorded(self.recipe_settings.get("depth"), MANIFEST, "recipe_settings.depth")

    def fingerprint(self) -> str:
        """Hex SHA-256 of every field."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class ShardEntry:
    """One shard: its file, its contents, and the checksum of its bytes."""

    file: str
    images: int
    rows: int
    masks: int
    first_image_id: int
    last_image_id: int
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class BagManifest:
    """`manifest.json` of a finished store, or of a finished part of one.

    Attributes:
        dropped: What did not become a mask, counted by reason.
        dropped_before: Of these, what was left out of the points before any bag was made.
        shards: In order.
        shards_total: Of the whole store; more than `shards` in a part, which `bags merge` joins with the others.
        failed: Images that could not be read, by ascending id; they are in no shard.
    """

    identity: BagIdentity
    categories: tuple[Category, ...]
    dropped: Mapping[str, int]
    dropped_before: Mapping[str, int]
    shards: tuple[ShardEntry, ...]
    shards_total: int
    failed: tuple[FailedImage, ...] = ()

    @property
    def images(self) -> int:
        return sum(shard.images for shard in self.shards)

    @property
    def points(self) -> int:
        return sum(shard.rows for shard in self.shards)

    @property
    def masks(self) -> int:
        return sum(shard.masks for shard in self.shards)

    @property
    def fingerprint(self) -> str:
        return self.identity.fingerprint()

    @property
    def is_part(self) -> bool:
        """Whether shards of the whole store are missing because this run was not to make them."""
        return len(self.shards) < self.shards_total

    def to_dict(self) -> dict[str, Any]:
        return {
            **_header(self.identity, "part" if self.is_part else "complete"),
            "images": self.images,
            "points": self.points,
            "masks": self.masks,
            "dropped": dict(sorted(self.dropped.items())),
            "dropped_before": dict(sorted(self.dropped_before.items())),
            "failed": [asdict(image) for image in self.failed],
            "categories": [{"id": category.category_id, "name": category.name} for category in self.categories],
            "shards_total": self.shards_total,
            "shards": [asdict(shard) for shard in self.shards],
        }


def write_manifest(folder: StoreFolder, manifest: BagManifest) -> None:
    """Write `manifest.json`: from here on the store is finished."""
    folder.write(MANIFEST, json_bytes(manifest.to_dict(), indent=2))


def write_partial_manifest(folder: StoreFolder, identity: BagIdentity) -> None:
    """Write `manifest.partial.json`: the folder belongs to a run of this identity."""
    folder.write(PARTIAL_MANIFEST, json_bytes(_header(identity, "partial"), indent=2))


def read_manifest(folder: StoreFolder) -> BagManifest:
    """Read and check `manifest.json`.

    Raises: UserError if there is no finished store, or its manifest is of another version, damaged or edited.
    """
    path = folder.at(MANIFEST)
    if folder.size(MANIFEST) is None:
        shards = any(name.startswith("bags-") and name.endswith(".parquet") for name in folder.names())
        unfinished = shards or folder.size(PARTIAL_MANIFEST) is not None
        problem = "a store that is not finished" if unfinished else "which holds no bag store"
        hint = "Run generate-bags again with the same settings" if unfinished else "Make one with generate-bags"
        raise UserError(str(folder), "manifest.json", "missing", problem, hint)
    content = _checked_object(folder, MANIFEST)
    identity = _read_identity(path, content)
    try:
        manifest = BagManifest(
            identity,
            tuple(Category(int(item["id"]), str(item["name"])) for item in content["categories"]),
            _read_counts(content["dropped"]),
            _read_counts(content.get("dropped_before", {})),
            tuple(_read_shard(item) for item in content["shards"]),
            int(content.get("shards_total", len(content["shards"]))),
            tuple(FailedImage(**item) for item in content.get("failed", [])),
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise _damaged(path, "content", f"{type(error).__name__}: {error}") from error
    for field in ("images", "points", "masks"):
        if content.get(field) != getattr(manifest, field):
            raise _damaged(path, field, content.get(field))
    return manifest


def read_identity(folder: StoreFolder) -> BagIdentity | None:
    """The identity of the store, finished or not, in `folder`; None if the folder holds neither."""
    for name in (MANIFEST, PARTIAL_MANIFEST):
        if folder.size(name) is not None:
            return _read_identity(folder.at(name), _checked_object(folder, name))
    return None


def refuse_other_identity(
    place: str, found: BagIdentity, wanted: BagIdentity, *, problem: str | None = None, hint: str | None = None
) -> None:
    """Raises: UserError naming the first field in which the store that is there differs from the one wanted."""
    for field in fields(BagIdentity):
        there, here = getattr(found, field.name), getattr(wanted, field.name)
        if there != here:
            name = field.name
            if isinstance(there, Mapping) and isinstance(here, Mapping):
                key = min(key for key in {**there, **here} if there.get(key) != here.get(key))
                name, there, here = f"{name}.{key}", there.get(key), here.get(key)
            raise UserError(
                place,
                name,
                there,
                problem or f"but this run has {here!r}, and two different runs never mix in one folder",
                hint or "Choose another --out, or give the settings that the store was made with",
            )


def _header(identity: BagIdentity, status: str) -> dict[str, Any]:
    return {**asdict(identity), "fingerprint": identity.fingerprint(), "status": status}


def _checked_object(folder: StoreFolder, name: str) -> dict[str, Any]:
    path = folder.at(name)
    content = parse_json(folder.read(name), path)
    if not isinstance(content, dict):
        raise _damaged(path, "content", type(content).__name__)
    version = content.get("schema_version")
    if version != SCHEMA_VERSION:
        problem = f"but this release reads version {SCHEMA_VERSION}"
        raise UserError(path, "schema_version", version, problem, "Make the store again with generate-bags")
    return content


def _read_identity(path: str, content: dict[str, Any]) -> BagIdentity:
    values: dict[str, Any] = {field.name: content.get(field.name) for field in fields(BagIdentity)}
    for field in fields(BagIdentity):
        if not isinstance(values[field.name], _JSON_TYPES.get(field.name, str)):
            raise _damaged(path, field.name, values[field.name])
    identity = BagIdentity(**values)
    if content.get("fingerprint") != identity.fingerprint():
        raise _damaged(path, "fingerprint", content.get("fingerprint"))
    return identity


def _read_counts(item: dict[str, Any]) -> dict[str, int]:
    if not all(type(count) is int for count in item.values()):
        raise ValueError(f"counts: {item!r}")
    return {str(reason): count for reason, count in item.items()}


def _read_shard(item: dict[str, Any]) -> ShardEntry:
    entry = ShardEntry(**item)
    for field in fields(ShardEntry):
        value = getattr(entry, field.name)
        if not isinstance(value, str if field.name in ("file", "sha256") else int):
            raise ValueError(f"shards: {field.name} = {value!r}")
    if Path(entry.file).name != entry.file:
        raise ValueError(f"shards: file = {entry.file!r}")
    return entry


def _damaged(path: str, field: str, value: object) -> UserError:
    problem = "which does not fit the rest of the manifest, so the file was damaged or edited"
    return UserError(path, field, value, problem, "Make the store again with generate-bags")
