"""What a bag store says of itself: all that decides its masks, its shards, and whether it is finished."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from data.bag_schema import SCHEMA_VERSION
from data.coco import Category
from data.errors import UserError
from data.files import read_json, write_json

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
    """`manifest.json` of a finished store; `dropped` counts by reason what did not become a mask."""

    identity: BagIdentity
    categories: tuple[Category, ...]
    dropped: Mapping[str, int]
    shards: tuple[ShardEntry, ...]

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

    def to_dict(self) -> dict[str, Any]:
        return {
            **_header(self.identity, "complete"),
            "images": self.images,
            "points": self.points,
            "masks": self.masks,
            "dropped": dict(sorted(self.dropped.items())),
            "categories": [{"id": category.category_id, "name": category.name} for category in self.categories],
            "shards": [asdict(shard) for shard in self.shards],
        }


def write_manifest(folder: Path, manifest: BagManifest) -> None:
    """Write `manifest.json`: from here on the store is finished."""
    write_json(folder / MANIFEST, manifest.to_dict(), indent=2)


def write_partial_manifest(folder: Path, identity: BagIdentity) -> None:
    """Write `manifest.partial.json`: the folder belongs to a run of this identity."""
    write_json(folder / PARTIAL_MANIFEST, _header(identity, "partial"), indent=2)


def read_manifest(folder: Path) -> BagManifest:
    """Read and check `manifest.json`.

    Raises: UserError if there is no finished store, or its manifest is of another version, damaged or edited.
    """
    path = folder / MANIFEST
    if not path.is_file():
        unfinished = (folder / PARTIAL_MANIFEST).is_file()
        problem = "a store that is not finished" if unfinished else "which holds no bag store"
        mend = "Run generate-bags again with the same settings" if unfinished else "Make one with generate-bags"
        raise UserError(folder, "manifest.json", "missing", problem, mend)
    content = _checked_object(path)
    identity = _read_identity(path, content)
    try:
        manifest = BagManifest(
            identity,
            tuple(Category(int(item["id"]), str(item["name"])) for item in content["categories"]),
            {str(reason): int(count) for reason, count in content["dropped"].items()},
            tuple(_read_shard(item) for item in content["shards"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _damaged(path, "content", f"{type(error).__name__}: {error}") from error
    for field in ("images", "points", "masks"):
        if content.get(field) != getattr(manifest, field):
            raise _damaged(path, field, content.get(field))
    return manifest


def read_identity(folder: Path) -> BagIdentity | None:
    """The identity of the store, finished or not, in `folder`; None if the folder holds neither."""
    for name in (MANIFEST, PARTIAL_MANIFEST):
        if (folder / name).is_file():
            return _read_identity(folder / name, _checked_object(folder / name))
    return None


def refuse_other_identity(folder: Path, found: BagIdentity, wanted: BagIdentity) -> None:
    """Raises: UserError naming the first field in which the store that is there differs from the one wanted."""
    for field in fields(BagIdentity):
        there, here = getattr(found, field.name), getattr(wanted, field.name)
        if there != here:
            raise UserError(
                folder,
                field.name,
                there,
                f"but this run has {here!r}, and two different runs never mix in one folder",
                "Choose another --out, or give the settings that the store was made with",
            )


def _header(identity: BagIdentity, status: str) -> dict[str, Any]:
    return {**asdict(identity), "fingerprint": identity.fingerprint(), "status": status}


def _checked_object(path: Path) -> dict[str, Any]:
    content = read_json(path)
    if not isinstance(content, dict):
        raise _damaged(path, "content", type(content).__name__)
    version = content.get("schema_version")
    if version != SCHEMA_VERSION:
        problem = f"but this release reads version {SCHEMA_VERSION}"
        raise UserError(path, "schema_version", version, problem, "Make the store again with generate-bags")
    return content


def _read_identity(path: Path, content: dict[str, Any]) -> BagIdentity:
    values: dict[str, Any] = {field.name: content.get(field.name) for field in fields(BagIdentity)}
    for field in fields(BagIdentity):
        if not isinstance(values[field.name], _JSON_TYPES.get(field.name, str)):
            raise _damaged(path, field.name, values[field.name])
    identity = BagIdentity(**values)
    if content.get("fingerprint") != identity.fingerprint():
        raise _damaged(path, "fingerprint", content.get("fingerprint"))
    return identity


def _read_shard(item: dict[str, Any]) -> ShardEntry:
    entry = ShardEntry(**item)
    for field in fields(ShardEntry):
        value = getattr(entry, field.name)
        if not isinstance(value, str if field.name in ("file", "sha256") else int):
            raise ValueError(f"shards: {field.name} = {value!r}")
    if Path(entry.file).name != entry.file:
        raise ValueError(f"shards: file = {entry.file!r}")
    return entry


def _damaged(path: Path, field: str, value: object) -> UserError:
    problem = "which does not fit the rest of the manifest, so the file was damaged or edited"
    return UserError(path, field, value, problem, "Make the store again with generate-bags")
