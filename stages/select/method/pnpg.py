"""PNPG: positive and negative proposals for PRM.

Positive (PPG): the bag itself and boxes scaled about the mined box. Negative (NPG): random boxes that keep clear of all
positives (IoU under T_neg1), and parts of the selected boxes (IoU under T_neg2).

I images, N bags (padded where they are those of one image), M masks per bag and G positives per bag (padded), R random
boxes per image, K parts per object.
"""

import torch
from torch import Tensor

from sapnet_pipe.stages.select.batches.batch import SelectBatch
from sapnet_pipe.stages.select.config import NegativesConfig
from sapnet_pipe.stages.select.method.boxes import box_area, box_iou, box_overlap
from sapnet_pipe.stages.select.method.pdg import guidance

NUM_GROWN, NUM_LAST = 15, 5
NUM_SCALED = NUM_GROWN + NUM_LAST


def scaled_boxes(mined: Tensor, distance: Tensor, neighbours_inside: Tensor, image_size: Tensor) -> Tensor:
    """Twenty boxes with the centre of the mined box.

    Fifteen are 1 % to 15 % larger. The last five are 8 % to 10 % larger in steps of 0.5 % if no other point of the
    class lies in the mined box; else they shrink in steps of 0.5 % / sigmoid(1 / W): up to 1 %, the more the farther
    or the more numerous the neighbours are.

    Args:
        mined: (N, 4) float32, network pixels.
        distance, neighbours_inside: (N,), W and the number of neighbours for the mined box (`neighbour_distance`).
        image_size: (N, 2) float32, height and width; the boxes are clipped to it.
    Returns: (N, 20, 4) float32.
    """
    grown = 1 + 0.01 * torch.arange(1, NUM_GROWN + 1, device=mined.device)
    more = 1 + 0.005 * torch.arange(16, 16 + NUM_LAST, device=mined.device)
    fewer = 1 - 0.005 * torch.arange(1, NUM_LAST + 1, device=mined.device) / guidance(distance)[:, None]
    last = torch.where(neighbours_inside[:, None] > 0, fewer, more)
    factors = torch.cat([grown.expand(len(mined), -1), last], dim=1)  # (N, 20)
    centre, half = (mined[:, :2] + mined[:, 2:]) / 2, (mined[:, 2:] - mined[:, :2]) / 2
    reach = half[:, None] * factors[..., None]
    boxes = torch.cat([centre[:, None] - reach, centre[:, None] + reach], dim=-1)
    limit = image_size.flip(-1).repeat(1, 2)[:, None]
    return torch.minimum(boxes.clamp(min=0), limit)


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


def random_boxes(draws: Tensor, image_size: Tensor) -> Tensor:
    """Boxes anywhere in the image and up to 20 % around it.

    Args:
        draws: (I, 4, R) uniform in [0, 1), for x1, y1, x2, y2. image_size: (I, 2) float32, height and width.
    Returns: (I, R, 4) float32, not clipped.
    """
    height, width = image_size[:, :1], image_size[:, 1:]
    right, bottom = width * 6 / 5, height * 6 / 5
    x1 = draws[:, 0] * right - width / 5
    y1 = draws[:, 1] * bottom - height / 5
    x2 = x1 + draws[:, 2] * (right - x1)
    y2 = y1 + draws[:, 3] * (bottom - y1)
    return torch.stack([x1, y1, x2, y2], dim=-1)


def background(candidates: Tensor, positives: Tensor, valid: Tensor, *, t_neg1: float = 0.3) -> Tensor:
    """Which candidates have an IoU under `t_neg1` with every positive of their image.

    IoU >= t is overlap >= t / (1 + t) * (sum of areas), which spares the division.

    Args:
        candidates: (I, R, 4). positives: (I, N, G, 4), the bags of each image, padded. valid: (I, N, G) bool.
    Returns: (I, R) bool.
    """
    share = t_neg1 / (1 + t_neg1)
    area = share * box_area(candidates)
    areas = (share * box_area(positives)).masked_fill(~valid, torch.inf)
    # The shortcut's sizes depend on the values: no matter on a CPU, but a graph or an accelerator would have to wait.
    shortcut = candidates.device.type == "cpu" and not torch.compiler.is_compiling()
    touches = _touches_near if shortcut else _touches
    return ~touches(candidates, area, positives, areas, valid)


def _touches(candidates: Tensor, area: Tensor, positives: Tensor, areas: Tensor, valid: Tensor) -> Tensor:
    """Every candidate against every positive: (I, R) bool; `areas` is infinite on padding."""
    overlap = box_overlap(candidates[:, :, None], positives.flatten(1, 2)[:, None])  # (I, R, N * G)
    return (overlap >= area[..., None] + areas.flatten(1)[:, None]).any(dim=2)


def _touches_near(candidates: Tensor, area: Tensor, positives: Tensor, areas: Tensor, valid: Tensor) -> Tensor:
    """As `_touches`, in a third of the time.

    A candidate that fails even for the hull of a bag and the smallest area in it passes for the whole bag: few pairs
    are left to be looked at.
    """
    low = positives[..., :2].masked_fill(~valid[..., None], torch.inf).amin(dim=2)
    high = positives[..., 2:].masked_fill(~valid[..., None], -torch.inf).amax(dim=2)
    hull = torch.cat([low, high], dim=-1)
    near = box_overlap(candidates[:, :, None], hull[:, None]) >= area[..., None] + areas.amin(dim=2)[:, None]
    image, candidate, bag = near.nonzero(as_tuple=True)
    overlap = box_overlap(candidates[image, candidate][:, None], positives[image, bag])  # (pairs, G)
    hit = (overlap >= area[image, candidate][:, None] + areas[image, bag]).any(dim=1)
    touched = torch.zeros_like(area, dtype=torch.bool)
    touched[image[hit], candidate[hit]] = True
    return touched


def part_boxes(
    selected: Tensor, draws: Tensor, *, min_area: float = 64.0 * 64.0, t_neg2: float = 0.5
) -> tuple[Tensor, Tensor]:
    """Boxes inside the selected box that hold too little of it to be the object.

    The first is the centred box of half the width and height; the others have sides of 20 % to 90 % anywhere inside.

    Args:
        selected: (N, 4) float32. draws: (N, K - 1, 4) uniform in [0, 1) for width, height and place.
        min_area: Only objects over this area (network pixels) have parts.
    Returns: (N, K, 4) float32, and (N, K) bool: the object is large enough and the IoU with its box under `t_neg2`.
    """
    centred = draws.new_full((len(selected), 1, 4), 0.5)
    sides = torch.cat([centred[..., :2], 0.2 + 0.7 * draws[..., :2]], dim=1)  # (N, K, 2), shares of the box
    place = torch.cat([centred[..., 2:], draws[..., 2:]], dim=1)
    origin, size = selected[:, None, :2], (selected[:, 2:] - selected[:, :2])[:, None]
    low = origin + place * (1 - sides) * size
    parts = torch.cat([low, low + sides * size], dim=-1)
    keep = (box_area(selected)[:, None] > min_area) & (box_iou(parts, selected[:, None]) < t_neg2)
    return parts, keep


def pad_by_image(values: Tensor, image_index: Tensor, slot: Tensor, shape: tuple[int, int]) -> Tensor:
    """Bags (N, ...) to (I, most bags of an image, ...), zeros where an image has fewer; `slot` counts in the image."""
    padded = values.new_zeros((*shape, *values.shape[1:]))
    padded[image_index, slot] = values
    return padded
