"""All of stage two's maths of one training step around the network: what the model computes from boxes and logits.

I images, N bags, M masks per bag (padded), P neighbours (padded), C classes, R random boxes per image.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from sapnet_pipe.stages.select.method.bms import mine_boxes
from sapnet_pipe.stages.select.method.pdg import distance_score, neighbour_distance, same_class_neighbours
from sapnet_pipe.stages.select.method.pnpg import (
    NUM_SCALED,
    background,
    pad_by_image,
    part_boxes,
    random_boxes,
    scaled_boxes,
)
from sapnet_pipe.stages.select.method.psm_prm import (
    best_mask,
    negative_loss,
    of_class,
    prm_loss,
    prm_scores,
    psm_loss,
    psm_scores,
)


class StepInputs(NamedTuple):
    """Shapes: points (N, 2), class_index, image_index, slot (N,), boxes (N, M, 4), valid (N, M), neighbours (N, P, 2)
    and (N, P), sizes (I, 2), draws (I, 4, R), logits of PSM (N, M, C + 1), of PRM (N, M + 20, C), of the negatives
    (I * R + N, C)."""

    points: Tensor
    class_index: Tensor
    image_index: Tensor
    slot: Tensor
    boxes: Tensor
    valid: Tensor
    neighbours_xy: Tensor
    neighbours_valid: Tensor
    sizes: Tensor
    draws: Tensor
    psm_cls: Tensor
    psm_ins: Tensor
    prm_cls: Tensor
    prm_ins: Tensor
    negative_logits: Tensor


class StepResult(NamedTuple):
    """Scores, boxes and losses of one step."""

    s_dis: Tensor
    psm: Tensor
    mined: Tensor
    positives: Tensor
    prm: Tensor
    box: Tensor
    keep: Tensor
    parts: Tensor
    part_keep: Tensor
    loss_psm: Tensor
    loss_prm: Tensor
    loss_negative: Tensor


def step_maths(given: StepInputs, most_bags: int) -> StepResult:
    """One step; no value is looked at on the host."""
    neighbours = (given.neighbours_xy, given.neighbours_valid)
    s_dis = distance_score(given.points, given.boxes, *neighbours)
    scores = psm_scores(given.psm_cls, given.psm_ins, given.valid, s_dis)
    psm = of_class(scores, given.class_index)
    selected = take(given.boxes, best_mask(psm, given.valid))
    mined = mine_boxes(selected, given.boxes, psm, given.valid).box
    distance, inside = neighbour_distance(given.points, mined[:, None], *neighbours)
    added = scaled_boxes(mined, distance[:, 0], inside[:, 0], given.sizes[given.image_index])
    positives = torch.cat([given.boxes, added], dim=1)
    known = torch.cat([given.valid, given.valid.new_ones(len(mined), NUM_SCALED)], dim=1)
    refined = prm_scores(given.prm_cls, given.prm_ins, known)
    prm = of_class(refined, given.class_index)
    masks = given.boxes.shape[1]
    box = mine_boxes(take(positives, best_mask(prm, known)), given.boxes, prm[:, :masks], given.valid).box
    shape = (len(given.sizes), most_bags)
    by_image = [pad_by_image(values, given.image_index, given.slot, shape) for values in (positives, known)]
    keep = background(random_boxes(given.draws, given.sizes), by_image[0], by_image[1])
    parts, part_keep = part_boxes(selected, given.draws.new_zeros(len(mined), 0, 4))
    every = torch.cat([keep.flatten(), part_keep.flatten()])
    return StepResult(
        s_dis, psm, mined, positives, prm, box, keep, parts, part_keep,
        loss_psm=psm_loss(scores, given.class_index, given.valid),
        loss_prm=prm_loss(refined, given.class_index, known, psm.sum(dim=1).detach()),
        loss_negative=negative_loss(given.negative_logits, every, len(mined)),
    )  # fmt: skip


def take(boxes: Tensor, index: Tensor) -> Tensor:
    """One box per bag: (N, M, 4) and (N,) to (N, 4)."""
    return boxes.gather(1, index[:, None, None].expand(-1, 1, 4)).squeeze(1)


def random_step(
    points: int, *, images: int = 1, classes: int = 80, random_boxes: int = 500, seed: int = 0
) -> StepInputs:
    """Inputs as a crowded photograph of 1333x800 gives them: bags of 1 to 6 nested and shifted boxes."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    total, masks = points * images, 6
    points_xy = uniform(total, 2) * torch.tensor([1333.0, 800.0])
    half = (10 + 90 * uniform(total, 1, 1)) * (1 + uniform(total, masks, 2) * torch.linspace(0, 2, masks)[:, None])
    centre = points_xy[:, None] + 8 * (uniform(total, masks, 2) - 0.5)
    valid = torch.arange(masks) < torch.randint(1, masks + 1, (total, 1), generator=generator)
    valid[0] = True  # so that M is 6
    boxes = torch.cat([centre - half, centre + half], dim=-1) * valid[..., None]
    class_index = torch.randint(0, max(1, points // 7), (total,), generator=generator) % classes
    pairs = [same_class_neighbours(points_xy[i : i + points], class_index[i : i + points])
             for i in range(0, total, points)]  # fmt: skip
    most = max(known.shape[1] for _, known in pairs)
    pad = torch.nn.functional.pad
    return StepInputs(
        points_xy, class_index, torch.arange(images).repeat_interleave(points), torch.arange(points).repeat(images),
        boxes, valid, torch.cat([pad(xy, (0, 0, 0, most - xy.shape[1])) for xy, _ in pairs]),
        torch.cat([pad(known, (0, most - known.shape[1])) for _, known in pairs]),
        torch.tensor([[800.0, 1333.0]]).repeat(images, 1), uniform(images, 4, random_boxes),
        4 * uniform(total, masks, classes + 1) - 2, 4 * uniform(total, masks, classes + 1) - 2,
        4 * uniform(total, masks + NUM_SCALED, classes) - 2, 4 * uniform(total, masks + NUM_SCALED, classes) - 2,
        4 * uniform(images * random_boxes + total, classes) - 2,
    )  # fmt: skip
