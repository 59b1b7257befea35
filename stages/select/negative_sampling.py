"""Draws the negatives of one training step."""

import torch
from torch import Tensor

from stages.select.config import NegativesConfig
from stages.select.negatives import background, pad_by_image, part_boxes, random_boxes
from stages.select.select_batch import SelectBatch


@torch.no_grad()
def propose_negatives(
    batch: SelectBatch, positives: Tensor, valid: Tensor, selected: Tensor, config: NegativesConfig
) -> tuple[Tensor, Tensor, Tensor]:
    """Random boxes of every image and parts of every selected box, and whether they pass their thresholds.

    Args:
        positives, valid: (N, G, 4) and (N, G). selected: (N, 4), PSM's choice before mining.
    Returns: boxes (R, 4), their image (R,) int64, and (R,) bool; R follows from the shapes alone.
    """
    images, whole, device = len(batch.image_size), batch.whole, positives.device
    shape = (images, batch.most_bags)
    by_image = pad_by_image(positives, batch.image_index, batch.slot, shape)
    known = pad_by_image(valid, batch.image_index, batch.slot, shape)
    # Drawn for all processes together, so that their number changes nothing.
    places = torch.rand(whole.images, 4, config.random_boxes, device=device)[whole.first_image :][:images]
    candidates = random_boxes(places, batch.image_size)
    keep = background(candidates, by_image, known, t_neg1=config.t_neg1)  # (I, random boxes)
    draws = torch.rand(whole.bags, max(0, config.parts - 1), 4, device=device)[whole.first_bag :][: len(selected)]
    parts, good = part_boxes(selected, draws, min_area=config.part_min_side**2, t_neg2=config.t_neg2)
    parts, good = parts[:, : config.parts], good[:, : config.parts]
    image_of = torch.arange(images, device=device)[:, None].expand_as(keep)
    part_of = batch.image_index[:, None].expand_as(good)
    return (
        torch.cat([candidates.flatten(0, 1), parts.flatten(0, 1)]),
        torch.cat([image_of.flatten(), part_of.flatten()]),
        torch.cat([keep.flatten(), good.flatten()]),
    )
