"""The selection pass: every point of the store, one chosen mask each."""

from dataclasses import dataclass, fields

import numpy as np
import torch
from lightning_fabric.utilities.apply_func import move_data_to_device
from numpy.typing import NDArray
from tqdm import tqdm

from stages.devices import pick_device
from stages.loader import load_in_order
from stages.select.bag_images import BagImages
from stages.select.batches import TestBatches
from stages.select.config import SelectConfig
from stages.select.mask_choice import alternate_masks, mask_of_box
from stages.select.model import Selector, SelectorOutput
from stages.select.select_batch import SelectBatch


@dataclass(frozen=True)
class Selection:
    """What was chosen for N points, in the order of the table; indices count within the bag.

    Attributes:
        bag_index: (N,) int64, the chosen mask.
        psm_index: (N,) int64, PSM's mask before any mining; `bag_index` for methods without PSM.
        score: (N,) float32 in [0, 1], how sure the last module is that the bag holds its class (methods without
            training: SAM's score).
        psm_score, prm_score: (N,) float32, the modules' scores of the chosen mask; NaN where there is no such module.
        margin: (N,) float32, the last module's score of the chosen mask minus the highest of the others; negative
            where mining moved the choice, NaN in a bag of one.
        box_prm: (N, 4) float32, the mined box in original pixels; NaN without PRM.
        alternates: (N, 3) int64, masks for multi-mask supervision; -1 where the bag has no more.
    """

    bag_index: NDArray[np.int64]
    psm_index: NDArray[np.int64]
    score: NDArray[np.float32]
    psm_score: NDArray[np.float32]
    prm_score: NDArray[np.float32]
    margin: NDArray[np.float32]
    box_prm: NDArray[np.float32]
    alternates: NDArray[np.int64]


def empty_selection(count: int) -> Selection:
    """Room for `count` points: index 0, scores NaN, no alternates."""

    def nothing(*shape: int) -> NDArray[np.float32]:
        return np.full(shape, np.nan, np.float32)

    return Selection(
        bag_index=np.zeros(count, np.int64),
        psm_index=np.zeros(count, np.int64),
        score=nothing(count),
        psm_score=nothing(count),
        prm_score=nothing(count),
        margin=nothing(count),
        box_prm=nothing(count, 4),
        alternates=np.full((count, 3), -1, np.int64),
    )


def select_all(model: Selector, images: BagImages, config: SelectConfig, *, quiet: bool) -> Selection:
    """Run the trained selector over all points at test resolution; crowded images are not thinned."""
    device = pick_device(config.device)
    model.to(device).eval()
    batches = TestBatches(images, config.image, config.test.batch_size)
    order = range(len(batches))
    loaded = load_in_order(batches, order, config.test.workers)
    result = empty_selection(len(images.table))
    sizes = np.stack([images.table.height, images.table.width], axis=1)
    with torch.inference_mode():
        for batch in tqdm(loaded, total=len(order), desc="select", unit="batch", disable=quiet, dynamic_ncols=True):
            moved = move_data_to_device(batch, device)
            chosen = choose(moved, model(moved, mirror=config.test.flip))
            rows = batch.rows.numpy()
            for field in fields(Selection):
                getattr(result, field.name)[rows] = getattr(chosen, field.name)
            scale = batch.image_size[batch.image_index].numpy() / sizes[rows]  # resized / original: (height, width)
            result.box_prm[rows] /= np.tile(scale[:, ::-1], 2)
    return result


def choose(batch: SelectBatch, output: SelectorOutput) -> Selection:
    """Masks and scores of one batch; `box_prm` still in network pixels."""
    bags = torch.arange(len(batch.rows), device=batch.boxes.device)
    masks = batch.boxes.shape[1]
    last = output.own if output.prm is None else output.prm.own
    box = output.box if output.prm is None else output.prm.box
    scores = last[:, :masks]
    chosen = mask_of_box(batch.boxes, batch.valid, box, scores)
    others = scores.masked_fill(~batch.valid, -torch.inf).index_put((bags, chosen), scores.new_tensor(-torch.inf))
    margin = scores[bags, chosen] - others.max(dim=1).values
    nothing = torch.full_like(margin, torch.nan)
    columns = {
        "bag_index": chosen,
        "psm_index": output.selected,
        "score": last.sum(dim=1).clamp(0, 1),
        "psm_score": output.own[bags, chosen],
        "prm_score": nothing if output.prm is None else output.prm.own[bags, chosen],
        "margin": torch.where(margin.isfinite(), margin, nothing),
        "box_prm": nothing[:, None].expand(-1, 4) if output.prm is None else box,
        "alternates": alternate_masks(scores, batch.valid, chosen),
    }
    return Selection(**{name: column.cpu().numpy() for name, column in columns.items()})
