"""Polygons in an object's own frame: x right, y down, the whole object within about [-1, 1] on both axes."""

import numpy as np
from numpy.typing import NDArray

Polygon = NDArray[np.float64]
"""(K, 2) vertices, not closed."""


def polygon(*vertices: tuple[float, float]) -> Polygon:
    """Polygon from its vertices."""
    return np.array(vertices, dtype=np.float64)


def rectangle(left: float, top: float, right: float, bottom: float) -> Polygon:
    """Axis-aligned rectangle."""
    return polygon((left, top), (right, top), (right, bottom), (left, bottom))


def ellipse(x: float, y: float, radius_x: float, radius_y: float, start: float = 0, stop: float = 360) -> Polygon:
    """Ellipse, or the arc of it from `start` to `stop` degrees (clockwise on screen, 0 = right) closed by a chord."""
    angle = np.deg2rad(np.linspace(start, stop, 32))
    return np.stack([x + radius_x * np.cos(angle), y + radius_y * np.sin(angle)], axis=1)


def disc(x: float, y: float, radius: float) -> Polygon:
    """Circle: the wheel of cars and carts, the head of persons, the crown of some trees."""
    return ellipse(x, y, radius, radius)


def blob(rng: np.random.Generator, x: float, y: float, radius_x: float, radius_y: float, waviness: float) -> Polygon:
    """Ellipse with a wavy rim."""
    angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    radius = np.ones_like(angle)
    for frequency in (2, 3, 5, 7):
        radius += waviness / frequency * rng.uniform(0.3, 1) * np.cos(frequency * angle + rng.uniform(0, 2 * np.pi))
    return np.stack([x + radius_x * radius * np.cos(angle), y + radius_y * radius * np.sin(angle)], axis=1)


def bar(start: tuple[float, float], stop: tuple[float, float], width: float) -> Polygon:
    """Straight bar of the given width between two points."""
    a, b = np.asarray(start, float), np.asarray(stop, float)
    along = (b - a) / max(float(np.hypot(*(b - a))), 1e-9)
    across = np.array([-along[1], along[0]]) * width / 2
    return np.stack([a - across, b - across, b + across, a + across])
