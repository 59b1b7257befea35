"""Training examples for the tiny SAM: prompts on a rendered scene and the masks that each of the three tokens owes.

A point lies on a part, on an instance and perhaps on a group of touching neighbours. The levels that exist are given
to the tokens from the largest down: token 3 owes the largest, token 2 the next, token 1 the smallest. So no token
always means "the object", which is the ambiguity of the published SAM.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from sapnet_pipe.data.boxes import mask_to_box
from sapnet_pipe.data.scenes.dataset import TINY_SAM_TRAIN
from sapnet_pipe.data.scenes.scene import Scene, render_scene
from sapnet_pipe.stages.bags.tiny_sam.model import IMAGE_SIZE

TARGET_SIZE = IMAGE_SIZE // 2
_LEVEL_ODDS = {"part": 1.0, "instance": 0.3, "group": 0.8}
"""How often each level, where it exists, is the one meant; the predicted IoU learns these odds, so that like the
published SAM's it often prefers a part or a whole group."""
_PART_SHARE = (0.12, 0.85)
_BOX_RATE = 0.3


@dataclass(frozen=True)
class PromptBatch:
    """Prompts on one image.

    Attributes:
        image: (256, 256, 3) uint8.
        point_xy: (P, 2) float32, pixels.
        box_xyxy: (P, 4) float32, or None if these prompts are points alone.
        target: (P, 3, 128, 128) float32 in [0, 1], what token 1..3 owes; zeros where `owed` is False.
        owed: (P, 3) bool.
        meant: (P,) int64, the token whose level the annotator meant; the predicted IoU is measured against it.
        dense: (5, 128, 128) float32: foreground, part edges, instance edges, offset (x, y) to the instance's centre.
    """

    image: NDArray[np.uint8]
    point_xy: NDArray[np.float32]
    box_xyxy: NDArray[np.float32] | None
    target: NDArray[np.float32]
    owed: NDArray[np.bool_]
    meant: NDArray[np.int64]
    dense: NDArray[np.float32]


class PromptDataset(Dataset[PromptBatch]):
    """Item i is the scene `first` + i of the tiny SAM's own, with `prompts` prompts; a pure function of i."""

    def __init__(self, first: int, length: int, prompts: int) -> None:
        self._first, self._length, self._prompts = first, length, prompts

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> PromptBatch:
        seed = TINY_SAM_TRAIN[(self._first + index) % len(TINY_SAM_TRAIN)]
        scene, attempt = render_scene(seed), 0
        while not scene.class_index:  # every object covered: practically never
            attempt += 1
            scene = render_scene(TINY_SAM_TRAIN[-attempt])
        return draw_prompts(scene, self._prompts, np.random.default_rng((seed, 1)))


def draw_prompts(scene: Scene, prompts: int, rng: np.random.Generator) -> PromptBatch:
    """Draw `prompts` prompts: points, or for three images in ten a point together with the meant level's box."""
    with_box = bool(rng.uniform() < _BOX_RATE)
    target = np.zeros((prompts, 3, TARGET_SIZE, TARGET_SIZE), np.float32)
    owed = np.zeros((prompts, 3), bool)
    meant, points, boxes = np.zeros(prompts, np.int64), [], []
    for row in range(prompts):
        instance = int(rng.integers(len(scene.class_index)))
        x, y = _draw_point(scene.instance_map == instance + 1, rng)
        levels = levels_at(scene, x, y)
        first = 3 - len(levels)
        for token, mask in enumerate(levels.values(), start=first):
            target[row, token] = _halve(mask)
            owed[row, token] = True
        odds = np.array([_LEVEL_ODDS[name] for name in levels])
        meant[row] = first + rng.choice(len(levels), p=odds / odds.sum())
        points.append((x + 0.5, y + 0.5))
        boxes.append(_jittered_box(list(levels.values())[meant[row] - first], rng))
    box_xyxy = np.asarray(boxes, np.float32) if with_box else None
    return PromptBatch(scene.image, np.asarray(points, np.float32), box_xyxy, target, owed, meant, dense_targets(scene))


def levels_at(scene: Scene, x: int, y: int) -> dict[str, NDArray[np.bool_]]:
    """The masks that pixel (x, y) can mean, smallest first: part, instance, group, as far as they are distinct."""
    instance = int(scene.instance_map[y, x]) - 1
    whole = scene.instance_map == instance + 1
    levels = {"instance": whole}
    part = scene.part_map == scene.part_map[y, x]
    if _PART_SHARE[0] <= part.sum() / whole.sum() <= _PART_SHARE[1]:
        levels = {"part": part, "instance": whole}
    if scene.group[instance] >= 0:
        members = [i + 1 for i, group in enumerate(scene.group) if group == scene.group[instance]]
        levels["group"] = np.isin(scene.instance_map, members)
    return levels


def dense_targets(scene: Scene) -> NDArray[np.float32]:
    """(5, 128, 128) maps for the auxiliary head; see `PromptBatch.dense`."""
    instances, parts = scene.instance_map[::2, ::2], scene.part_map[::2, ::2]
    offset = np.zeros((2, *instances.shape), np.float32)
    y, x = np.mgrid[0 : instances.shape[0], 0 : instances.shape[1]].astype(np.float32)
    for index in range(1, int(instances.max(initial=0)) + 1):
        mask = instances == index
        if mask.any():
            offset[0][mask] = (x[mask].mean() - x[mask]) / 16
            offset[1][mask] = (y[mask].mean() - y[mask]) / 16
    maps = [instances > 0, _edges(parts), _edges(instances)]
    return np.concatenate([np.stack(maps).astype(np.float32), offset])


def _edges(labels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    kernel = np.ones((3, 3), np.uint8)
    edges: NDArray[np.bool_] = cv2.dilate(labels, kernel) != cv2.erode(labels, kernel)
    return edges


def _draw_point(mask: NDArray[np.bool_], rng: np.random.Generator) -> tuple[int, int]:
    """A pixel of the mask: near the box's centre for six prompts in ten, else anywhere on it."""
    y, x = np.nonzero(mask)
    weight = np.ones(len(x))
    if rng.uniform() < 0.6:
        u, v = ((c - (c.min() + c.max()) / 2) / max(int(np.ptp(c)), 1) for c in (x, y))
        weight = np.exp(-(u**2 + v**2) / (2 * 0.25**2))
    chosen = rng.choice(len(x), p=weight / weight.sum())
    return int(x[chosen]), int(y[chosen])


def _jittered_box(mask: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.float32]:
    box = mask_to_box(mask)
    side = np.array([box[2] - box[0], box[3] - box[1]] * 2)
    jitter = np.clip(rng.standard_normal(4) * 0.04 * side, -8, 8)
    return np.clip(box + jitter, 0, IMAGE_SIZE).astype(np.float32)


def _halve(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    half: NDArray[np.float32] = mask.reshape(TARGET_SIZE, 2, TARGET_SIZE, 2).mean(axis=(1, 3), dtype=np.float32)
    return half
