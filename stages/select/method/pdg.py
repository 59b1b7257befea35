"""Point distance guidance (PDG): masks that hold other clicks of the same class are probably groups.

N bags, M masks per bag (padded), P neighbours per bag (padded): the other points of its class in its image.
"""

import torch
from torch import Tensor

from sapnet_pipe.stages.select.method.boxes import points_inside


def neighbour_distance(
    point_xy: Tensor, boxes: Tensor, neighbours_xy: Tensor, neighbours_valid: Tensor, *, power: float = 1.0
) -> tuple[Tensor, Tensor]:
    """W_im, the distances from point i to its neighbours strictly inside box m, summed (paper: power 1).

    Args:
        point_xy: (N, 2) float32, network pixels, as everything here. The point itself need not lie in its boxes.
        boxes: (N, M, 4) float32.
        neighbours_xy, neighbours_valid: (N, P, 2) float32 and (N, P) bool.
        power: Exponent on each distance; the authors' release uses 0.5.
    Returns: W (N, M) float32, and how many neighbours are inside (N, M) int64.
    """
    inside = points_inside(neighbours_xy[:, None], boxes[:, :, None]) & neighbours_valid[:, None]  # (N, M, P)
    squared = (point_xy[:, None] - neighbours_xy).square().sum(dim=-1)  # (N, P)
    distance = squared.pow(power / 2)
    return (distance[:, None] * inside).sum(dim=-1), inside.sum(dim=-1)


def guidance(distance: Tensor) -> Tensor:
    """sigmoid(1 / W), which is 1 where W is 0 (no neighbour inside), down to 0.5 for many far ones; any shape."""
    return torch.sigmoid(1.0 / distance)


def distance_score(
    point_xy: Tensor,
    boxes: Tensor,
    neighbours_xy: Tensor,
    neighbours_valid: Tensor,
    *,
    power: float = 1.0,
    exponent: float = 0.015,
) -> Tensor:
    """S_dis = sigmoid(1 / W) ** d, (N, M) float32 in [0.5 ** d, 1]; arguments as `neighbour_distance`."""
    distance, _ = neighbour_distance(point_xy, boxes, neighbours_xy, neighbours_valid, power=power)
    return guidance(distance).pow(exponent)


def same_class_neighbours(points_xy: Tensor, class_index: Tensor) -> tuple[Tensor, Tensor]:
    """For every point of one image the other points of its class.

    Args:
        points_xy: (N, 2). class_index: (N,).
    Returns: (N, P, 2) and validity (N, P), P the largest number of neighbours.
    """
    same = class_index[:, None] == class_index[None]
    same.fill_diagonal_(False)
    most = int(same.sum(dim=1).max()) if len(same) else 0
    order = torch.argsort((~same).to(torch.uint8), dim=1, stable=True)[:, :most]
    return points_xy[order], same.gather(1, order)
