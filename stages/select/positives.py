"""Positive proposals (PPG): the bag, and boxes scaled about the mined box."""

import torch
from torch import Tensor

from stages.select.pdg import guidance

GROWN = 15
LAST = 5
NUM_SCALED = GROWN + LAST


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
    grown = 1 + 0.01 * torch.arange(1, GROWN + 1, device=mined.device)
    more = 1 + 0.005 * torch.arange(16, 16 + LAST, device=mined.device)
    fewer = 1 - 0.005 * torch.arange(1, LAST + 1, device=mined.device) / guidance(distance)[:, None]
    last = torch.where(neighbours_inside[:, None] > 0, fewer, more)
    factors = torch.cat([grown.expand(len(mined), -1), last], dim=1)  # (N, 20)
    centre, half = (mined[:, :2] + mined[:, 2:]) / 2, (mined[:, 2:] - mined[:, :2]) / 2
    reach = half[:, None] * factors[..., None]
    boxes = torch.cat([centre[:, None] - reach, centre[:, None] + reach], dim=-1)
    limit = image_size.flip(-1).repeat(1, 2)[:, None]
    return torch.minimum(boxes.clamp(min=0), limit)
