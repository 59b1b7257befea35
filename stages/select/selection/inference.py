"""The trained selector over every point of the store."""

from collections.abc import Iterator

import torch
from lightning_fabric.utilities.apply_func import move_data_to_device
from tqdm import tqdm

from sapnet_pipe.data.bag_store.table import BagTable
from sapnet_pipe.data.labels.explanations import Selection
from sapnet_pipe.stages.select.batches.bag_images import BagImages
from sapnet_pipe.stages.select.batches.batch import SelectBatch
from sapnet_pipe.stages.select.batches.loader import InferenceBatches, InputReader
from sapnet_pipe.stages.select.config import SelectConfig
from sapnet_pipe.stages.select.network.model import Selector
from sapnet_pipe.stages.select.selection.choice import choose
from sapnet_pipe.stages.training.devices import pick_device
from sapnet_pipe.stages.training.distributed import current_world, gather
from sapnet_pipe.stages.training.loader import load_in_order


def select_all(
    model: Selector, images: BagImages, config: SelectConfig, *, quiet: bool, reader: InputReader | None = None
) -> Iterator[Selection]:
    """Run the trained selector over all points at test resolution; crowded images are not thinned.

    Every process runs its part of the batches, and has to take all that there is to take.

    Args:
        reader: What the model is given of images; None for the pixels of the photographs.
    Yields: the selection batch by batch, in the order of the table; nothing in any process but the first.
    """
    device, world = pick_device(config.device), current_world()
    model.to(device).eval()
    batches = InferenceBatches(images, config.image, config.test.batch_size, reader)
    loaded = load_in_order(batches, range(world.rank, len(batches), world.size), config.test.workers)
    with tqdm(total=len(batches), desc="select", unit="batch", disable=quiet, dynamic_ncols=True) as bar:
        for _ in range(-(-len(batches) // world.size)):
            batch = next(loaded, None)  # None at the end, where another process has one more
            mine = None if batch is None else _select(model, batch, images.table, device, config)
            for part in gather(mine):
                yield part
                bar.update()


@torch.inference_mode()
def _select(
    model: Selector, batch: SelectBatch, table: BagTable, device: torch.device, config: SelectConfig
) -> Selection:
    moved = move_data_to_device(batch, device)
    return choose(moved, model(moved, tta=config.test.flip), table, config.assignment)
