"""A store of fewer masks made from another: those of the point prompt alone."""

from dataclasses import replace
from itertools import islice
from pathlib import Path

from sapnet_pipe.data.bag_store.masks import TOKENS
from sapnet_pipe.data.bag_store.schema import Bag
from sapnet_pipe.data.bag_store.store import BagStore
from sapnet_pipe.data.bag_store.writer import open_writer

FILTER = "point prompt alone"
LEFT_OUT = "later_prompt"


def write_point_masks(store: BagStore, out: Path) -> BagStore:
    """Write the masks of `store` that SAM gave for the point alone into the folder `out`, or open what is there.

    A bag without such a mask stays as it is, so that both stores have the same points. Images that could not be read
    are not listed again.

    Raises: UserError if another store is there, a shard cannot be read, or the folder cannot be written.
    """
    manifest = store.manifest
    settings = {**manifest.identity.recipe_settings, "filter": FILTER, "of": store.fingerprint}
    identity = replace(manifest.identity, recipe_settings=settings)
    filled = [entry for entry in manifest.shards if entry.rows]
    with open_writer(out, identity, manifest.categories, len(filled)) as writer:
        missing = set(writer.missing)
        bags = store.iter_bags() if missing else iter(())
        for index, entry in enumerate(filled if missing else ()):
            own = list(islice(bags, entry.rows))
            if index in missing:
                kept = [point_masks(bag) for bag in own]
                left_out = sum(len(bag.masks) for bag in own) - sum(len(bag.masks) for bag in kept)
                writer.write_shard(index, kept, {LEFT_OUT: left_out} if left_out else {})
        if writer.manifest is None:
            writer.finish(manifest.dropped_before)
    return BagStore.open(out)


def point_masks(bag: Bag) -> Bag:
    """The bag with the masks of prompt 0 alone; unchanged if it has none."""
    alone = bag.masks.source < TOKENS
    return replace(bag, masks=bag.masks.take(alone)) if alone.any() else bag
