"""Setting photographs aside for a verdict: a split by photograph that keeps the share of every class.

Photographs are dealt out class by class, the rarest first, each to the side that lacks most of that class (iterative
stratification, Sechidis et al., ECML PKDD 2011).
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sapnet_pipe.data.errors import UserError
from sapnet_pipe.data.points.point_set import PointSet


def hold_out(points: PointSet, share: float, seed: int) -> tuple[PointSet, PointSet]:
    """The points of the photographs that stay, and of those that are held out.

    Args:
        share: Of the photographs and of the clicks of every class, between 0 and 1.
    Raises: UserError if one of the two would have no click.
    """
    image_ids = np.array(sorted(points.images), np.int64)
    categories = np.array([category.category_id for category in points.categories], np.int64)
    clicks = np.zeros((len(image_ids), len(categories) + 1), np.int64)
    rows, columns = (
        np.searchsorted(image_ids, points.image_id),
        np.searchsorted(np.sort(categories), points.category_id),
    )
    np.add.at(clicks, (rows, columns), 1)
    clicks[:, -1] = clicks.sum(axis=1) == 0  # photographs without a click are a class of their own
    held = _deal(clicks, share, np.random.default_rng(seed))
    parts = tuple(_only(points, image_ids[chosen].tolist()) for chosen in (~held, held))
    if not all(len(part) for part in parts):
        problem = f"of {len(image_ids)} photographs, which leaves one side without a click"
        raise UserError(points.source, "--hold-out", share, problem, "Give another share, or more photographs")
    return parts[0], parts[1]


def _deal(clicks: NDArray[np.int64], share: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """(I,) which photographs are held out.

    Args:
        clicks: (I, C) clicks of every class in every photograph.
    """
    wanted = clicks.sum(axis=0)[:, None] * np.array([1 - share, share])  # (C, 2) what each side lacks
    places = len(clicks) * np.array([1 - share, share])
    side = np.full(len(clicks), -1)
    order = rng.permutation(len(clicks))
    while (side < 0).any():
        left = [image for image in order if side[image] < 0]
        photographs = (clicks[left] > 0).sum(axis=0)
        rarest = int(np.where(photographs > 0, photographs, len(clicks) + 1).argmin())
        for image in left:
            if clicks[image, rarest]:
                lacks = places if wanted[rarest, 0] == wanted[rarest, 1] else wanted[rarest]
                side[image] = int(lacks[1] > lacks[0])
                wanted[:, side[image]] -= clicks[image]
                places[side[image]] -= 1
    return side == 1


def _only(points: PointSet, image_ids: list[int]) -> PointSet:
    """The points of some photographs."""
    kept = np.isin(points.image_id, image_ids)
    images = {key: points.images[key] for key in image_ids}
    empty = len(images) - len(np.unique(points.image_id[kept]))
    return replace(
        points,
        images=images,
        image_id=points.image_id[kept],
        point_id=points.point_id[kept],
        category_id=points.category_id[kept],
        xy=points.xy[kept],
        dropped=points.dropped | {"images_without_points": empty},
    )
