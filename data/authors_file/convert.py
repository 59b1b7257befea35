"""Bags from the authors' file of SAM masks, and a file for the authors' code from our bags; memory stays flat."""

import pickle
import tempfile
from array import array
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from sapnet_pipe.data.authors_file.entry import Place, bag_of, entry_of
from sapnet_pipe.data.authors_file.layout import Layout, require_layout
from sapnet_pipe.data.bag_store.filesystem import Location
from sapnet_pipe.data.bag_store.manifest import BagIdentity, BagManifest
from sapnet_pipe.data.bag_store.schema import Bag
from sapnet_pipe.data.bag_store.store import BagStore
from sapnet_pipe.data.bag_store.writer import open_writer
from sapnet_pipe.data.coco.document import check_references, read_head
from sapnet_pipe.data.coco.instances import Category, ImageRecord
from sapnet_pipe.data.errors import FaultReport, UserError
from sapnet_pipe.data.files import sha256_file
from sapnet_pipe.data.json_files import stream_entries, write_coco
from sapnet_pipe.data.points.coco_clicks import click_of
from sapnet_pipe.data.points.point_set import PointSet
from sapnet_pipe.data.progress import progress_bar

UNKNOWN = "unknown"
_NO_KEYS = Layout(None, None, None)
# What is left out, corrected or odd; the summary has all of them, those of 0 too.
_COUNTED = (
    *("crowd", "without_point", "points_moved_inside", "points_without_masks"),
    *("empty_masks", "repeated_masks", "masks_without_score", "boxes_that_differ"),
)


@dataclass(frozen=True)
class Imported:
    """What an import wrote.

    Attributes:
        layout: The keys of the file's lists.
        shards_made: By this run; the others were there already.
    """

    manifest: BagManifest
    layout: Layout
    shards_made: int


def import_bags(
    path: Path,
    out: Location,
    *,
    points: PointSet | None = None,
    keys: Layout = _NO_KEYS,
    shard_images: int = 64,
    quiet: bool = False,
) -> Imported:
    """Write the bags of the authors' file (`data.authors_file.layout`) as a store; an interrupted import goes on.

    Args:
        points: Clicks by annotation id, for a file that has none, or to take others than the file's.
        keys: Names of the file's lists; those that are None are found by what stands in them.
    Raises: UserError naming file, field, value and hint; also if no annotation gives a bag.
    """
    reading = _Reading(path, points, keys)
    images, categories = _head(path, quiet)
    with tempfile.TemporaryFile() as file:
        spool = _BagSpool(file)
        reading.read_into(spool, images, categories, quiet)
        if reading.layout is None or not len(spool):
            hint = "Give the file of SAM's masks, with clicks or with --points"
            raise UserError(path, "annotations", dict(reading.dropped), "none of which gives a bag", hint)
        shards = spool.shards(shard_images)
        identity = _identity(path, reading.layout, points, shard_images)
        with open_writer(out, identity, categories, len(shards)) as writer:
            missing = writer.missing
            for index in progress_bar(missing, desc="writing", unit="shard", quiet=quiet):
                writer.write_shard(index, [spool.bag(int(place)) for place in shards[index]], {})
            manifest = writer.manifest or writer.finish(dict(reading.dropped))
    return Imported(manifest, reading.layout, len(missing))


def export_bags(store: BagStore, out: Path, *, quiet: bool = False) -> int:
    """Write a store as the authors' file; memory holds one shard. Returns: the number of annotations.

    Raises: UserError if the store cannot be read or the file not written.
    """
    info = {"description": "SAM bags in the layout of the SAPNet release", "fingerprint": store.fingerprint}
    bags = progress_bar(store.iter_bags(), total=store.manifest.points, desc="exporting", unit="pt", quiet=quiet)
    entries = (entry_of(bag) for bag in bags)
    write_coco(out, info=info, images=store.iter_images(), categories=store.categories, annotations=entries)
    return store.manifest.points


class _Reading:
    """One pass over the file's annotations."""

    def __init__(self, path: Path, points: PointSet | None, keys: Layout) -> None:
        self._path, self._points, self._keys = path, points, keys
        self._by_id = None if points is None else np.argsort(points.point_id)
        self.layout: Layout | None = None
        self.dropped = Counter(dict.fromkeys(_COUNTED, 0))

    def read_into(
        self, spool: "_BagSpool", images: dict[int, ImageRecord], categories: tuple[Category, ...], quiet: bool
    ) -> None:
        """Keep the bag of every annotation that has a click and a mask."""
        report, known, seen = FaultReport(self._path), {category.category_id for category in categories}, set[int]()
        for index, entry in enumerate(stream_entries(self._path, "annotations", label="reading", quiet=quiet)):
            check_references(index, entry, images, known, seen, report)
            if entry.get("iscrowd"):
                self.dropped["crowd"] += 1
                continue
            image = images[entry["image_id"]]
            point_xy = self._point(index, entry, image)
            if point_xy is None:
                self.dropped["without_point"] += 1
                continue
            layout = self.layout = self.layout or self._find_layout(index, entry)
            bag = bag_of(Place(self._path, index, entry), layout, image, point_xy, self.dropped)
            if bag is None:
                self.dropped["points_without_masks"] += 1
                continue
            spool.add(bag)

    def _find_layout(self, index: int, entry: dict[str, Any]) -> Layout:
        keys = self._keys
        if keys.masks and keys.boxes and keys.scores:
            return keys
        found = require_layout(self._path, index, entry, keys.masks)
        return Layout(found.masks, keys.boxes or found.boxes, keys.scores or found.scores)

    def _point(self, index: int, entry: dict[str, Any], image: ImageRecord) -> tuple[float, float] | None:
        """The click inside its image as float32 has it; None if there is none."""
        if self._points is not None:
            return self._given_point(index, entry)
        click = click_of(index, entry, image, FaultReport(self._path))
        if click is None:
            return None
        self.dropped["points_moved_inside"] += click.moved
        last = np.nextafter(np.array([image.width, image.height], np.float32), np.float32(0))
        x, y = np.minimum(np.array(click.xy, np.float64).astype(np.float32), last).tolist()
        return x, y

    def _given_point(self, index: int, entry: dict[str, Any]) -> tuple[float, float] | None:
        points, by_id = self._points, self._by_id
        if points is None or by_id is None:
            return None
        place = int(np.searchsorted(points.point_id, entry["id"], sorter=by_id))
        if place == len(points) or points.point_id[by_id[place]] != entry["id"]:
            return None
        row = by_id[place]
        if points.image_id[row] != entry["image_id"]:
            problem = f"but {points.source} has point {entry['id']} on image {points.image_id[row]}"
            field, hint = f"annotations[{index}].image_id", "Give the points that the masks were made for"
            raise UserError(self._path, field, entry["image_id"], problem, hint)
        x, y = points.xy[row].tolist()
        return x, y


class _BagSpool:
    """Bags that come in any order, in a file of this process until they are written in the store's order.

    Memory holds three numbers per bag.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._image_id, self._point_id, self._offset = array("q"), array("q"), array("q")

    def __len__(self) -> int:
        return len(self._offset)

    def add(self, bag: Bag) -> None:
        """Keep a bag."""
        self._image_id.append(bag.image_id)
        self._point_id.append(bag.point_id)
        self._offset.append(self._file.tell())
        pickle.dump(bag, self._file, pickle.HIGHEST_PROTOCOL)

    def shards(self, shard_images: int) -> list[NDArray[np.int64]]:
        """The places of the bags of every shard, in the order (image_id, point_id), `shard_images` images a shard."""
        if not len(self):
            return []
        image_id = np.frombuffer(self._image_id, np.int64)
        order = np.lexsort((np.frombuffer(self._point_id, np.int64), image_id))
        # Number of the image, in order, that each bag belongs to: a new one wherever the id changes.
        number = np.cumsum(np.diff(image_id[order], prepend=image_id[order[0]]) != 0)
        return np.split(order, np.flatnonzero(np.diff(number // shard_images)) + 1)

    def bag(self, place: int) -> Bag:
        """The bag that was added as number `place`."""
        self._file.seek(self._offset[place])
        bag: Bag = pickle.load(self._file)
        return bag


def _head(path: Path, quiet: bool) -> tuple[dict[int, ImageRecord], tuple[Category, ...]]:
    """Images and categories, wherever in the file they stand."""
    root = {
        key: list(stream_entries(path, key, label=f"looking for {key}", quiet=quiet))
        for key in ("images", "categories")
    }
    return read_head(root, FaultReport(path))


def _identity(path: Path, layout: Layout, points: PointSet | None, shard_images: int) -> BagIdentity:
    """All that decides an imported store: the file, the names of its lists, and the clicks if they were given."""
    settings = {"masks": layout.masks, "boxes": layout.boxes, "scores": layout.scores}
    return BagIdentity(
        sam_model=UNKNOWN,
        checkpoint_sha256=UNKNOWN,
        recipe="imported",
        recipe_settings=settings | {"file_sha256": sha256_file(path)},
        precision=UNKNOWN,
        points_sha256=sha256_file(path) if points is None else points.sha256 or sha256_file(points.source),
        shard_images=shard_images,
    )
