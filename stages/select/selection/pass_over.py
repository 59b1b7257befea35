"""The selection pass: every point of the store, one chosen mask each."""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from lightning_fabric.utilities.apply_func import move_data_to_device
from numpy.typing import NDArray
from tqdm import tqdm

from sapnet_pipe.data.labels.explanations import ExplanationWriter
from sapnet_pipe.stages.select.batches.bag_images import BagImages, padded_index
from sapnet_pipe.stages.select.batches.loader import Look, TestBatches
from sapnet_pipe.stages.select.batches.select_batch import SelectBatch
from sapnet_pipe.stages.select.config import SelectConfig
from sapnet_pipe.stages.select.network.model import Selector
from sapnet_pipe.stages.select.selection.choose import Selection, choose, empty_selection
from sapnet_pipe.stages.select.selection.mask_scores import MaskScores, explained, mask_scores
from sapnet_pipe.stages.training.devices import pick_device
from sapnet_pipe.stages.training.distributed import current_world, gather
from sapnet_pipe.stages.training.loader import load_in_order

CHUNK = 4096


def select_all(
    model: Selector,
    images: BagImages,
    config: SelectConfig,
    *,
    quiet: bool,
    explain: bool = False,
    writer: ExplanationWriter | None = None,
    look: Look | None = None,
) -> Selection:
    """Run the trained selector over all points at test resolution; crowded images are not thinned.

    Args:
        explain: Whether the reasons are asked for. writer: Where they go, batch by batch; the first process has it.
        look: What the model sees in place of the photographs.
    Returns: the whole selection; in every process but the first an empty one.
    """
    batches = TestBatches(images, config.image, config.test.batch_size, look)
    result = empty_selection(len(images.table))
    bar = tqdm(total=len(batches), desc="select", unit="batch", disable=quiet, dynamic_ncols=True)
    with torch.inference_mode(), bar:
        for own in _chosen(model, images, batches, config, explain):
            for part in gather(own):
                for field in fields(Selection):
                    getattr(result, field.name)[part.rows] = getattr(part.selection, field.name)
                if writer is not None:
                    writer.write(explained(images.table, part.rows, part.selection, part.scores))
                bar.update()
    return result


def explain_rule(writer: ExplanationWriter, images: BagImages, selection: Selection) -> None:
    """Write the reasons of a choice that was made without modules: SAM's scores."""
    for start in range(0, len(images.table), CHUNK):
        rows = np.arange(start, min(start + CHUNK, len(images.table)))
        part = Selection(**{field.name: getattr(selection, field.name)[rows] for field in fields(Selection)})
        writer.write(explained(images.table, rows, part, None))


@dataclass(frozen=True)
class _Part:
    """The choice for one batch: rows (N,) of the table."""

    rows: NDArray[np.int64]
    selection: Selection
    scores: MaskScores | None


def _chosen(
    model: Selector, images: BagImages, batches: TestBatches, config: SelectConfig, explain: bool
) -> Iterator[_Part | None]:
    """This process's batches, every `world.size`-th; None at the end where another process has one more."""
    device, world = pick_device(config.device), current_world()
    model.to(device).eval()
    own = range(world.rank, len(batches), world.size)
    loaded = load_in_order(batches, own, config.test.workers)
    for _ in range(-(-len(batches) // world.size)):
        batch = next(loaded, None)
        yield None if batch is None else _part(model, images, batch, device, config, explain)


def _part(
    model: Selector, images: BagImages, batch: SelectBatch, device: torch.device, config: SelectConfig, explain: bool
) -> _Part:
    rows = batch.rows.numpy()
    moved = move_data_to_device(batch, device)
    output = model(moved, mirror=config.test.flip)
    index, _ = padded_index(images.table.offsets, rows)
    sam_score = torch.from_numpy(images.table.masks.score[index]).to(device)
    selection = choose(moved, output, sam_score, config.assignment)
    scores = mask_scores(moved, output) if explain else None
    size = np.stack([images.table.height[rows], images.table.width[rows]], axis=1)
    scale = np.tile((batch.image_size[batch.image_index].numpy() / size)[:, ::-1], 2)  # of x, y, x, y
    return _Part(
        rows,
        replace(selection, box_prm=(selection.box_prm / scale).astype(np.float32)),
        scores and replace(scores, psm_box=(scores.psm_box / scale).astype(np.float32)),
    )
