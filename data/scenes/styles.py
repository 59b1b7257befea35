"""What one generator of scenes draws otherwise than another: sizes, groups, parts, textures, clutter.

`DEMO` is the generator of the demo and of the tiny SAM's training, on which the demo's settings were tuned. The scenes
of `NEW_STYLES` were seen by no training of the tiny SAM, and no setting was chosen by them.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class SceneStyle:
    """A generator of scenes.

    Attributes:
        group_rate: Share of the scenes that hold a row of touching objects of one class.
        rows: Objects in a row; one of these is drawn.
        objects: Objects wanted in a scene, the least and the most.
        radius: Half the extent of an object that stands alone, as shares of the image's side, drawn log-uniformly.
        part_scale: Size of an object's parts, but for its largest, as a multiple of the demo's.
        textured: Share of the parts that have a texture. strength: Its contrast as a multiple of the demo's.
        clutter: Stray shapes in the background, the least and the most.
        overlaps: Share of an object's box that another may cover; one of these is drawn for each object.
    """

    group_rate: float = 0.6
    rows: tuple[int, ...] = (2, 2, 3)
    objects: tuple[int, int] = (3, 6)
    radius: tuple[float, float] = (0.10, 0.25)
    part_scale: float = 1.0
    textured: float = 0.35
    strength: float = 1.0
    clutter: tuple[int, int] = (1, 5)
    overlaps: tuple[float, ...] = (0.0, 0.08, 0.2)


DEMO = SceneStyle()
NEW_STYLES: Mapping[str, SceneStyle] = {
    "crowded": SceneStyle(
        group_rate=0.9, rows=(3, 3, 4), objects=(6, 10), radius=(0.07, 0.16), overlaps=(0.0, 0.15, 0.3)
    ),
    "sparse": SceneStyle(group_rate=0.3, rows=(2,), objects=(2, 3), radius=(0.14, 0.30), clutter=(0, 2)),
    "small": SceneStyle(rows=(2, 3), objects=(5, 8), radius=(0.06, 0.12), clutter=(2, 8), overlaps=(0.0, 0.08)),
    "textured": SceneStyle(group_rate=0.5, part_scale=0.85, textured=0.9, strength=2.0, clutter=(3, 9)),
    "large-parts": SceneStyle(group_rate=0.7, rows=(2, 3, 4), part_scale=1.35, textured=0.5, strength=1.3),
}
