"""Every object of a store under SAM's own choice and those of files of labels."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from sapnet_pipe.data.bag_store.store import BagStore
from sapnet_pipe.data.coco.instances import ImageRecord, InstanceDataset, counts_of
from sapnet_pipe.data.evaluation.bag_overlaps import match_points
from sapnet_pipe.pipeline.pictures.contrasts import Contrast, contrast_of, draw_contrasts
from sapnet_pipe.pipeline.pictures.strips import Clicks, StoreView, chosen_by, masks_by_image

SAM = "SAM top-1"
DIFFERENCES = "differences.png"


def contrasts_of(
    store: BagStore, labels: Mapping[str, InstanceDataset], truth: InstanceDataset | None
) -> Iterator[Contrast]:
    """Every object that all `labels` have, image by image; their titles follow SAM's."""
    bags = StoreView(store)
    names = {category.category_id: category.name for category in store.categories}
    chosen = {title: masks_by_image(dataset) for title, dataset in labels.items()}
    true_masks = _true_masks(bags, truth)
    for record in bags.records:
        own = {title: masks.get(record.image_id, {}) for title, masks in chosen.items()}
        of_sam = bags.chosen_by_sam(store.read_masks(record.image_id))
        for category_id, clicks in _by_category(bags, record).items():
            for key in clicks:
                if all(key in masks for masks in own.values()):
                    masks = {SAM: of_sam[key], **{title: found[key] for title, found in own.items()}}
                    yield contrast_of(record, key, names[category_id], clicks, masks, true_masks.get(key))


def draw_differences(
    out: Path, store: BagStore, labels: InstanceDataset, images_dir: Path, truth: InstanceDataset | None, *, quiet: bool
) -> str:
    """Draw the objects for which the labels differ most from SAM's own choice into `out`; a line on it."""
    every = contrasts_of(store, {_title(labels): labels}, truth)
    source, depth = str(labels.source), store.manifest.identity.depth
    shown = draw_contrasts(out / DIFFERENCES, every, images_dir, source=source, depth=depth, quiet=quiet)
    if not shown:
        return "The choice is SAM's own for every object, so there are no differences to draw."
    return f"{out / DIFFERENCES} shows the {shown} objects whose choice differs most from SAM's own."


def _title(labels: InstanceDataset) -> str:
    return chosen_by(labels).removeprefix("chosen by ")


def _true_masks(bags: StoreView, truth: InstanceDataset | None) -> dict[int, bytes]:
    """The true mask of every point that has one."""
    if truth is None:
        return {}
    match = match_points(bags.store, bags.table, truth)
    objects = {annotation.annotation_id: annotation for annotation in match.truth.annotations}
    found = {}
    for point_id, true_id in match.found.items():
        annotation = objects[true_id]
        found[point_id] = counts_of(annotation, match.truth.images[annotation.image_id], file=match.truth.source)
    return found


def _by_category(bags: StoreView, record: ImageRecord) -> dict[int, Clicks]:
    """The clicks of a photograph by the category they are of."""
    table, found = bags.table, dict[int, Clicks]()
    for row in np.flatnonzero(table.image_id == record.image_id).tolist():
        x, y = table.point_xy[row].tolist()
        found.setdefault(int(table.category_id[row]), {})[int(table.point_id[row])] = (x, y)
    return found
