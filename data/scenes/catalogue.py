"""The eight classes. Wheels, stems, triangles, discs and boxes recur, so that no single part tells the class."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from sapnet_pipe.data.scenes.shapes import Polygon, bar, blob, disc, ellipse, polygon, rectangle


@dataclass(frozen=True)
class Part:
    """One visible part: the union of its polygons; `slot` numbers its colour, equal slots share one."""

    polygons: tuple[Polygon, ...]
    slot: int


Proportions = np.ndarray
"""(6,) in [-1, 1]: what varies between two objects of a class; members of a group share most of it."""


def _car(p: Proportions, rng: np.random.Generator) -> list[Part]:
    wheel, cabin, shift = 0.27 + 0.04 * p[0], 0.52 + 0.08 * p[1], 0.14 * p[2]
    body = polygon((-1, 0.42), (-1, 0.02), (-0.85, -0.08), (0.85, -0.08), (1, 0.08), (1, 0.42))
    top = -0.58 - 0.08 * p[3]
    cab = polygon(
        (-cabin + shift, -0.05), (-cabin + 0.2 + shift, top), (cabin - 0.2 + shift, top), (cabin + shift, -0.05)
    )
    return [Part((cab,), 1), Part((body,), 0), *_wheels(wheel, 0.55, 0.42)]


def _cart(p: Proportions, rng: np.random.Generator) -> list[Part]:
    wheel, height = 0.27 + 0.04 * p[0], 0.62 + 0.1 * p[1]
    box = polygon((-0.72, 0.4 - height), (0.62, 0.4 - height), (0.56, 0.4), (-0.66, 0.4))
    handle = bar((0.5, 0.2), (1.0, -0.55 - 0.1 * p[2]), 0.14)
    return [Part((handle,), 1), Part((box,), 0), *_wheels(wheel, 0.38, 0.48)]


def _wheels(radius: float, offset: float, y: float) -> list[Part]:
    return [Part((disc(-offset, y, radius),), 3), Part((disc(offset, y, radius),), 3)]


def _house(p: Proportions, rng: np.random.Generator) -> list[Part]:
    half, eaves, door = 0.72 + 0.12 * p[0], -0.1 + 0.1 * p[1], 0.38 * p[2]
    roof = polygon((-half - 0.18, eaves), (0.12 * p[3], -0.95), (half + 0.18, eaves))
    wall = rectangle(-half, eaves, half, 0.85)
    return [Part((wall,), 0), Part((roof,), 1), Part((rectangle(door - 0.2, 0.2, door + 0.2, 0.85),), 2)]


def _boat(p: Proportions, rng: np.random.Generator) -> list[Part]:
    depth = 0.5 + 0.1 * p[0]
    hull = polygon((-1, 0.3), (1, 0.3), (0.62, 0.3 + depth), (-0.62, 0.3 + depth))
    sail = polygon((0.04, -0.95), (0.82 + 0.1 * p[1], 0.32), (0.04, 0.32))
    jib = polygon((-0.06, -0.7), (-0.68 - 0.1 * p[2], 0.32), (-0.06, 0.32))
    return [Part((rectangle(-0.06, -0.98, 0.05, 0.4),), 3), Part((sail,), 1), Part((jib,), 2), Part((hull,), 0)]


def _tree(p: Proportions, rng: np.random.Generator) -> list[Part]:
    if p[2] > 0.3:
        crown: tuple[Polygon, ...] = (blob(rng, 0, -0.32, 0.7 + 0.12 * p[1], 0.6, 0.2),)
    elif p[2] > -0.3:
        crown = (disc(-0.36, -0.15, 0.42), disc(0.36, -0.15, 0.42), disc(0, -0.52, 0.45))
    else:
        crown = (polygon((-0.72 - 0.1 * p[1], 0.3), (0, -1), (0.72 + 0.1 * p[1], 0.3)),)
    return [_stem(p), Part(crown, 0)]


def _mushroom(p: Proportions, rng: np.random.Generator) -> list[Part]:
    height = 0.8 + 0.12 * p[1]
    cap = np.concatenate([ellipse(0, 0.12, 0.95, height, 180, 360), polygon((0.6, 0.24), (-0.6, 0.24))])
    return [_stem(p), Part((cap,), 0)]


def _stem(p: Proportions) -> Part:
    """Trunk of the tree and stalk of the mushroom: the same shape and the same colours."""
    half = 0.22 + 0.05 * p[0]
    return Part((polygon((-half, 0), (half, 0), (half + 0.07, 0.97), (-half - 0.07, 0.97)),), 1)


def _fish(p: Proportions, rng: np.random.Generator) -> list[Part]:
    height = 0.48 + 0.08 * p[0]
    tail = polygon((0.38, 0), (1, -0.52 - 0.08 * p[1]), (0.9, 0), (1, 0.52 + 0.08 * p[1]))
    fin = polygon((-0.4, -height * 0.6), (0.05, -height - 0.34), (0.3, -height * 0.6))
    return [Part((tail,), 1), Part((fin,), 2), Part((ellipse(-0.24, 0, 0.76, height),), 0)]


def _person(p: Proportions, rng: np.random.Generator) -> list[Part]:
    shoulder, hip, gap = 0.44 + 0.07 * p[0], 0.34 + 0.04 * p[1], 0.05
    legs = (rectangle(-hip, 0.2, -gap, 1), rectangle(gap, 0.2, hip, 1))
    torso = polygon((-shoulder, -0.4), (shoulder, -0.4), (hip + 0.04, 0.3), (-hip - 0.04, 0.3))
    return [Part(legs, 1), Part((torso,), 0), Part((disc(0, -0.66, 0.31 + 0.03 * p[2]),), 3)]


_BUILDERS: dict[str, Callable[[Proportions, np.random.Generator], list[Part]]] = {
    "car": _car,
    "cart": _cart,
    "house": _house,
    "boat": _boat,
    "tree": _tree,
    "mushroom": _mushroom,
    "fish": _fish,
    "person": _person,
}
CLASS_NAMES: tuple[str, ...] = tuple(_BUILDERS)


def build_object(class_name: str, proportions: Proportions, rng: np.random.Generator) -> list[Part]:
    """Parts of one object, in drawing order (later ones lie on top)."""
    return _BUILDERS[class_name](proportions, rng)
