"""Strips of one's own photographs: the clicks, the masks of their bags, what was chosen, what is true."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sapnet_pipe.data.bag_store.store import BagStore
from sapnet_pipe.data.bag_store.table import BagTable, baseline_choice
from sapnet_pipe.data.coco.instances import ImageRecord, InstanceDataset, counts_of, read_instances
from sapnet_pipe.data.errors import UserError
from sapnet_pipe.data.evaluation.identity import match_images
from sapnet_pipe.data.images import read_image
from sapnet_pipe.data.photo_names import find_photograph
from sapnet_pipe.data.pixel_depth import AUTO, Depth
from sapnet_pipe.data.points.point_set import PointSet
from sapnet_pipe.data.progress import progress_bar
from sapnet_pipe.pipeline.pictures.draw import Panel, draw_strip, write_picture

Masks = dict[int, bytes]
Clicks = dict[int, tuple[float, float]]
DRAWN = 24


def draw_strips(
    out: Path,
    records: Sequence[ImageRecord],
    images_dir: Path,
    panels_of: Callable[[ImageRecord], Sequence[Panel]],
    *,
    source: Path | str,
    count: int = DRAWN,
    depth: Depth = AUTO,
    quiet: bool,
) -> str:
    """Draw at most `count` photographs, evenly spread over all, as ID-NAME.png in the new folder `out`.

    Args:
        source: What to blame for a photograph that cannot be read.
        depth: How more than 8 bits a channel become 8.
    Returns: a line that says how many were drawn, and where.
    """
    chosen = [
        records[place] for place in np.unique(np.linspace(0, len(records) - 1, min(count, len(records)), dtype=int))
    ]
    try:
        for record in progress_bar(chosen, desc="drawing", unit="image", quiet=quiet):
            field = f"image {record.image_id}.file_name"
            path = find_photograph(images_dir, record.file_name, file=source, field=field)
            pixels = read_image(path, record.height, record.width, depth=depth, file=source, field=field)
            name = f"{record.image_id}-{Path(record.file_name.replace(chr(92), '/')).stem[:80]}.png"
            write_picture(out / name, draw_strip(pixels, list(panels_of(record))))
    except UserError:
        shutil.rmtree(out, ignore_errors=True)  # it was new
        raise
    return f"{len(chosen)} of {len(records)} photographs with clicks are drawn in {out}."


def draw_clicks(out: Path, points: PointSet, images_dir: Path, *, quiet: bool) -> str:
    """The clicks of every photograph; see `draw_strips`."""
    names = {category.category_id: category.name for category in points.categories}
    with_clicks = sorted(set(points.image_id.tolist()))

    def panels(record: ImageRecord) -> list[Panel]:
        rows = np.flatnonzero(points.image_id == record.image_id)
        clicks = {int(points.point_id[row]): _pair(points.xy[row]) for row in rows}
        kinds = {int(points.point_id[row]): names[int(points.category_id[row])] for row in rows}
        return [Panel(_counted(kinds), {}, clicks, kinds)]

    return draw_strips(
        out, [points.images[key] for key in with_clicks], images_dir, panels, source=points.source, quiet=quiet
    )


def draw_bags(out: Path, store: BagStore, images_dir: Path, truth: InstanceDataset | None, *, quiet: bool) -> str:
    """The clicks, and of every bag its smallest, middle and largest mask and SAM's own choice; see `draw_strips`."""
    bags = StoreView(store)
    true_masks = masks_of_truth(truth, bags.records, store.folder)

    def panels(record: ImageRecord) -> list[Panel]:
        clicks, masks = bags.clicks(record), store.read_masks(record.image_id)
        ranked = {key: [masks[key][place] for place in bags.by_area(key)] for key in masks}
        sizes = {"smallest": 0.0, "middle": 0.5, "largest": 1.0}
        return [
            Panel(f"{len(clicks)} clicks", {}, clicks),
            *(Panel(f"{name} of each bag", {key: _at(of, share) for key, of in ranked.items()}, clicks)
              for name, share in sizes.items()),
            Panel("SAM top-1", bags.chosen_by_sam(masks), clicks),
            *_truth_panels(true_masks, record),
        ]  # fmt: skip

    depth, source = store.manifest.identity.depth, str(store.folder)
    return draw_strips(out, bags.records, images_dir, panels, source=source, depth=depth, quiet=quiet)


def draw_choices(
    out: Path, store: BagStore, labels: Path, images_dir: Path, truth: InstanceDataset | None, *, quiet: bool
) -> str:
    """The clicks, SAM's own choice, that of the labels, and the runner-up; see `draw_strips`."""
    chosen = read_instances(labels)
    places = {entry.annotation_id: entry.extra.get("runner_up") for entry in chosen.annotations}
    own, bags = masks_by_image(chosen), StoreView(store)
    true_masks = masks_of_truth(truth, bags.records, store.folder)

    def panels(record: ImageRecord) -> list[Panel]:
        clicks, masks = bags.clicks(record), store.read_masks(record.image_id)
        second = {key: of[place] for key, of in masks.items() if (place := places.get(key)) is not None}
        return [
            *choice_panels(bags, record, own, str(chosen_by(chosen))),
            Panel("runner-up", second, clicks),
            *_truth_panels(true_masks, record),
        ]

    drawn = [record for record in bags.records if record.image_id in own]
    depth = store.manifest.identity.depth
    return draw_strips(out, drawn, images_dir, panels, source=labels, depth=depth, quiet=quiet)


def choice_panels(bags: "StoreView", record: ImageRecord, chosen: Mapping[int, Masks], title: str) -> list[Panel]:
    """The panels that show one photograph's clicks, SAM's own choice and another."""
    clicks = bags.clicks(record)
    masks = bags.store.read_masks(record.image_id) if clicks else {}
    return [
        Panel(f"{len(clicks)} clicks", {}, clicks),
        Panel("SAM top-1", bags.chosen_by_sam(masks), clicks),
        Panel(title, chosen.get(record.image_id, {}), clicks),
    ]


def chosen_by(labels: InstanceDataset) -> str:
    """What to call the method that made pseudo labels."""
    source = next((entry.extra.get("source") for entry in labels.annotations), None)
    return f"chosen by {source}" if source else "chosen"


class StoreView:
    """A store by image and point, for pictures."""

    def __init__(self, store: BagStore) -> None:
        self.store, self.table = store, store.read_table()
        self.records = list(_records(self.table))
        self._row = {int(key): row for row, key in enumerate(self.table.point_id)}
        self._top1 = baseline_choice(self.table, "sam-top1")

    def clicks(self, record: ImageRecord) -> Clicks:
        """x, y of the points of an image by id."""
        rows = np.flatnonzero(self.table.image_id == record.image_id)
        return {int(self.table.point_id[row]): _pair(self.table.point_xy[row]) for row in rows}

    def by_area(self, point_id: int) -> list[int]:
        """The places of the masks of a bag, the smallest first."""
        return np.argsort(self.table.masks.area[self.table.bag(self._row[point_id])], kind="stable").tolist()

    def chosen_by_sam(self, masks: Mapping[int, Sequence[bytes]]) -> Masks:
        """Of each bag the mask that SAM scores highest for the click."""
        return {key: bag[int(self._top1[self._row[key]])] for key, bag in masks.items()}


def masks_by_image(dataset: InstanceDataset) -> dict[int, Masks]:
    """image_id -> annotation id -> counts, of the annotations that have a mask."""
    masks: dict[int, Masks] = {}
    for entry in dataset.annotations:
        if entry.segmentation is not None:
            counts = counts_of(entry, dataset.images[entry.image_id], file=dataset.source)
            masks.setdefault(entry.image_id, {})[entry.annotation_id] = counts
    return masks


def masks_of_truth(
    truth: InstanceDataset | None, records: Sequence[ImageRecord], source: Path | str
) -> dict[int, Masks] | None:
    """The true masks by the image ids of `records`; None without a truth."""
    if truth is None:
        return None
    masks = masks_by_image(truth)
    return {own: masks.get(theirs, {}) for own, theirs in match_images(records, truth, source=source).items()}


def _truth_panels(masks: Mapping[int, Masks] | None, record: ImageRecord) -> list[Panel]:
    return [] if masks is None else [Panel("truth", masks.get(record.image_id, {}), {})]


def _records(table: BagTable) -> list[ImageRecord]:
    rows = np.unique(table.image_id, return_index=True)[1].tolist()
    sizes = zip(table.height[rows].tolist(), table.width[rows].tolist(), strict=True)
    return [
        ImageRecord(int(table.image_id[row]), str(table.file_name[row]), *size)
        for row, size in zip(rows, sizes, strict=True)
    ]


def _at(ranked: Sequence[bytes], share: float) -> bytes:
    return ranked[round(share * (len(ranked) - 1))]


def _pair(xy: NDArray[np.float32]) -> tuple[float, float]:
    return float(xy[0]), float(xy[1])


def _counted(kinds: Mapping[int, str]) -> str:
    return f"{len(kinds)} clicks of {len(set(kinds.values()))} categories"
