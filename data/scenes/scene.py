"""One rendered scene: where the objects stand, what covers what, and the exact truth of every pixel."""

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from sapnet_pipe.data.scenes.catalogue import CLASS_NAMES, Part, build_object
from sapnet_pipe.data.scenes.paint import TEXTURES, hsv_colour, paint_background, paint_part
from sapnet_pipe.data.scenes.shapes import Polygon
from sapnet_pipe.data.scenes.styles import DEMO, SceneStyle

_MIN_VISIBLE_PIXELS = 80
_SLOTS = 4


@dataclass(frozen=True)
class Scene:
    """A rendered image and its truth.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        instance_map: (H, W) uint8; 0 is background, i + 1 the visible pixels of instance i.
        part_map: (H, W) uint8; 0 is background, p + 1 the visible pixels of part p.
        part_instance: Instance index of every part.
        class_index: Class of every instance, an index into `CLASS_NAMES`.
        group: For every instance the number of its group of touching same-class neighbours, -1 if it stands alone.
    """

    image: NDArray[np.uint8]
    instance_map: NDArray[np.uint8]
    part_map: NDArray[np.uint8]
    part_instance: tuple[int, ...]
    class_index: tuple[int, ...]
    group: tuple[int, ...]


@dataclass(frozen=True)
class _Look:
    """Colours, textures and proportions of one object; the members of a row share them except for a jitter."""

    colours: NDArray[np.float32]
    textures: tuple[str, ...]
    proportions: NDArray[np.float64]
    outline: float


@dataclass(frozen=True)
class _Placed:
    """An object on the canvas: its parts' polygons in pixels, in drawing order."""

    class_index: int
    polygons: tuple[tuple[Polygon, ...], ...]
    slots: tuple[int, ...]
    look: _Look

    def extent(self) -> NDArray[np.float64]:
        vertices = np.concatenate([polygon for part in self.polygons for polygon in part])
        return np.concatenate([vertices.min(axis=0), vertices.max(axis=0)])

    def moved(self, offset: NDArray[np.float64]) -> "_Placed":
        return replace(self, polygons=tuple(tuple(p + offset for p in part) for part in self.polygons))


def render_scene(seed: int, size: int = 256, *, style: SceneStyle = DEMO) -> Scene:
    """Render the scene of this seed: the same seed gives the same pixels.

    Args:
        seed: Names the scene.
        size: Side of the square image in pixels.
        style: The generator.
    """
    rng = np.random.default_rng(seed)
    canvas = paint_background(size, rng, clutter=style.clutter)
    wanted = int(rng.integers(style.objects[0], style.objects[1] + 1))
    objects: list[_Placed] = []
    if rng.uniform() < style.group_rate:
        objects += _row(size, rng, int(rng.choice(style.rows)), style)
    for _ in range(60):
        if len(objects) >= wanted:
            break
        candidate = _single(size, rng, style)
        if _fits(candidate, objects, size, tolerance=float(rng.choice(style.overlaps))):
            objects.insert(int(rng.integers(0, len(objects) + 1)), candidate)
    instance_map, part_map, part_instance = _paint_objects(canvas, objects, rng, style.strength)
    image = _photograph(canvas, rng)
    class_index = tuple(placed.class_index for placed in objects)
    return _visible_only(Scene(image, instance_map, part_map, part_instance, class_index, ()))


def _look(rng: np.random.Generator, textured: float) -> _Look:
    hues = rng.uniform(size=_SLOTS)
    colours = [hsv_colour(hue, rng.uniform(0.35, 0.9), rng.uniform(0.35, 0.95)) for hue in hues]
    textures = [TEXTURES[int(rng.integers(1, len(TEXTURES)))] if rng.uniform() < textured else "plain" for _ in hues]
    return _Look(np.stack(colours), tuple(textures), rng.uniform(-1, 1, 6), rng.uniform(0.15, 0.55))


def _jittered(look: _Look, rng: np.random.Generator) -> _Look:
    proportions = np.clip(look.proportions + 0.15 * rng.standard_normal(6), -1, 1)
    proportions[2] = look.proportions[2]  # chooses the kind of a tree's crown
    colours = look.colours * (1 + 0.04 * rng.standard_normal()) + 5 * rng.standard_normal((_SLOTS, 3))
    return replace(look, colours=np.clip(colours, 0, 255).astype(np.float32), proportions=proportions)


def _radius(size: int, rng: np.random.Generator, smallest: float, largest: float) -> float:
    """Half the object's extent in pixels, log-uniform between two shares of the image's side."""
    return float(size * np.exp(rng.uniform(np.log(smallest), np.log(largest))))


def _place(
    class_index: int,
    look: _Look,
    centre: NDArray[np.float64],
    radius: float,
    turn: float,
    flip: bool,
    rng: np.random.Generator,
    part_scale: float,
) -> _Placed:
    parts = build_object(CLASS_NAMES[class_index], look.proportions, rng)
    if part_scale != 1:
        parts = with_parts_scaled(parts, part_scale)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    scale = radius * np.array([-1.0 if flip else 1.0, 1.0]) * np.array([1 + 0.1 * look.proportions[5], 1.0])
    polygons = tuple(tuple(centre + (p * scale) @ rotation.T for p in part.polygons) for part in parts)
    return _Placed(class_index, polygons, tuple(part.slot for part in parts), look)


def with_parts_scaled(parts: list[Part], factor: float) -> list[Part]:
    """All parts but the largest, scaled about their own centres."""
    extents = [np.ptp(np.concatenate(part.polygons), axis=0).prod() for part in parts]
    largest = int(np.argmax(extents))
    return [part if place == largest else _scaled(part, factor) for place, part in enumerate(parts)]


def _scaled(part: Part, factor: float) -> Part:
    vertices = np.concatenate(part.polygons)
    centre = (vertices.min(axis=0) + vertices.max(axis=0)) / 2
    return replace(part, polygons=tuple(centre + factor * (polygon - centre) for polygon in part.polygons))


def _single(size: int, rng: np.random.Generator, style: SceneStyle) -> _Placed:
    class_index, look = int(rng.integers(len(CLASS_NAMES))), _look(rng, style.textured)
    centre, turn, flip = rng.uniform(0, size, 2), 0.15 * rng.standard_normal(), bool(rng.uniform() < 0.5)
    radius = _radius(size, rng, *style.radius)
    return _place(class_index, look, centre, radius, turn, flip, rng, style.part_scale)


def _row(size: int, rng: np.random.Generator, count: int, style: SceneStyle) -> list[_Placed]:
    """Touching or slightly overlapping objects of one class and look, side by side or one above the other."""
    class_index, look = int(rng.integers(len(CLASS_NAMES))), _look(rng, style.textured)
    radius = _radius(size, rng, style.radius[0], 0.46 / count)
    turn, flip, axis = 0.08 * rng.standard_normal(), bool(rng.uniform() < 0.5), 0 if rng.uniform() < 0.75 else 1
    row: list[_Placed] = []
    for _ in range(count):
        scale = radius * float(np.exp(0.06 * rng.standard_normal()))
        member = _place(class_index, _jittered(look, rng), np.zeros(2), scale, turn, flip, rng, style.part_scale)
        if row:
            before, own, overlap = row[-1].extent(), member.extent(), rng.uniform(0.04, 0.16)
            offset = 0.06 * radius * rng.standard_normal(2)
            offset[axis] = before[2 + axis] - own[axis] - overlap * (own[2 + axis] - own[axis])
            offset[1 - axis] += (before[1 - axis] + before[3 - axis] - own[1 - axis] - own[3 - axis]) / 2
            member = member.moved(offset)
        row.append(member)
    extents = np.stack([member.extent() for member in row])
    low, high = extents[:, :2].min(axis=0), extents[:, 2:].max(axis=0)
    room = np.maximum(size - 4 - (high - low), 0)
    offset = 2 + rng.uniform(0, 1, 2) * room - low
    row = [member.moved(offset) for member in row]
    return row[::-1] if rng.uniform() < 0.5 else row


def _fits(candidate: _Placed, objects: list[_Placed], size: int, tolerance: float) -> bool:
    """At least 80 % of the box lies in the image, and no two boxes share more than `tolerance` of the smaller."""
    box = candidate.extent()
    inside = np.clip(box, 0, size)
    if _area(inside) < 0.8 * _area(box):
        return False
    for other in objects:
        other_box = other.extent()
        shared = np.concatenate([np.maximum(box[:2], other_box[:2]), np.minimum(box[2:], other_box[2:])])
        if (shared[2:] > shared[:2]).all() and _area(shared) > tolerance * min(_area(box), _area(other_box)):
            return False
    return True


def _area(box: NDArray[np.float64]) -> float:
    return float((box[2] - box[0]) * (box[3] - box[1]))


def _paint_objects(
    canvas: NDArray[np.float32], objects: list[_Placed], rng: np.random.Generator, strength: float
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], tuple[int, ...]]:
    instance_map = np.zeros(canvas.shape[:2], np.uint8)
    part_map = np.zeros(canvas.shape[:2], np.uint8)
    part_instance: list[int] = []
    for index, placed in enumerate(objects):
        look = placed.look
        for polygons, slot in zip(placed.polygons, placed.slots, strict=True):
            colour, texture = look.colours[slot], look.textures[slot]
            painted = paint_part(canvas, polygons, colour, texture, rng, outline=look.outline, strength=strength)
            part_instance.append(index)
            if painted is not None:
                mask, window = painted
                instance_map[window][mask] = index + 1
                part_map[window][mask] = len(part_instance)
    return instance_map, part_map, tuple(part_instance)


def _photograph(canvas: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Uneven light, slight blur, exposure and sensor noise."""
    size = canvas.shape[0]
    ramp = np.linspace(-0.5, 0.5, size, dtype=np.float32)
    slope = rng.uniform(-0.2, 0.2, 2).astype(np.float32)
    canvas = canvas * (1 + slope[0] * ramp[None, :, None] + slope[1] * ramp[:, None, None])
    if rng.uniform() < 0.6:
        canvas = cv2.GaussianBlur(canvas, (0, 0), rng.uniform(0.3, 0.7)).astype(np.float32)
    noise = rng.standard_normal(canvas.shape).astype(np.float32) * rng.uniform(1, 6)
    return np.clip(canvas * rng.uniform(0.85, 1.12) + noise, 0, 255).astype(np.uint8)


def _visible_only(scene: Scene) -> Scene:
    """Leave out objects that others cover almost wholly, number the rest densely, and find the groups."""
    count = len(scene.class_index)
    pixels = np.bincount(scene.instance_map.ravel(), minlength=count + 1)[1:]
    kept = np.flatnonzero(pixels >= _MIN_VISIBLE_PIXELS)
    new_instance = np.zeros(count + 1, np.uint8)
    new_instance[kept + 1] = np.arange(1, len(kept) + 1)
    part_pixels = np.bincount(scene.part_map.ravel(), minlength=len(scene.part_instance) + 1)[1:]
    parts = [p for p, owner in enumerate(scene.part_instance) if part_pixels[p] and new_instance[owner + 1]]
    new_part = np.zeros(len(scene.part_instance) + 1, np.uint8)
    new_part[np.asarray(parts, int) + 1] = np.arange(1, len(parts) + 1)
    instance_map = new_instance[scene.instance_map]
    class_index = tuple(scene.class_index[i] for i in kept)
    return Scene(
        image=scene.image,
        instance_map=instance_map,
        part_map=new_part[scene.part_map],
        part_instance=tuple(int(new_instance[scene.part_instance[p] + 1]) - 1 for p in parts),
        class_index=class_index,
        group=_groups(instance_map, class_index),
    )


def _groups(instance_map: NDArray[np.uint8], class_index: tuple[int, ...]) -> tuple[int, ...]:
    """Connected components of same-class instances that touch (at most two pixels apart)."""
    count = len(class_index)
    root = list(range(count))
    kernel = np.ones((5, 5), np.uint8)
    for a in range(count):
        near = cv2.dilate((instance_map == a + 1).astype(np.uint8), kernel) > 0
        touched = np.bincount(instance_map[near], minlength=count + 1)[1:]
        for b in range(a + 1, count):
            if class_index[a] == class_index[b] and touched[b] >= 4:
                root = [root[a] if r == root[b] else r for r in root]
    return tuple(r if root.count(r) > 1 else -1 for r in root)
