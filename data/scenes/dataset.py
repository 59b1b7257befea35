"""Rendered scenes as a data set on disk: a folder of PNG files and a COCO instances file with exact masks."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sapnet_pipe.data.boxes import mask_to_box, xyxy_to_xywh
from sapnet_pipe.data.coco.masks import encode_mask
from sapnet_pipe.data.files import atomic_path, disk_errors, write_json
from sapnet_pipe.data.progress import progress_bar
from sapnet_pipe.data.scenes.catalogue import CLASS_NAMES
from sapnet_pipe.data.scenes.scene import Scene, render_scene
from sapnet_pipe.data.scenes.styles import DEMO, NEW_STYLES, SceneStyle

# Scene seeds by purpose. The ranges are disjoint, so nothing is measured on a scene that some training has seen.
DEMO_TRAIN = range(1_000_000, 2_000_000)
DEMO_TEST = range(2_000_000, 3_000_000)
TINY_SAM_TEST = range(3_000_000, 4_000_000)
NEW_SETS = {
    style: range(start, start + 1_000_000)
    for style, start in zip(NEW_STYLES, range(4_000_000, 9_000_000, 1_000_000), strict=True)
}
_NEW_TEST = 500_000  # of each range the second half
TINY_SAM_TRAIN = range(10_000_000, 20_000_000)


def train_and_test_seeds(style: str) -> tuple[range, range]:
    """The scene seeds of the demo, or of one of `NEW_STYLES`; KeyError for another name."""
    if style == "demo":
        return DEMO_TRAIN, DEMO_TEST
    return NEW_SETS[style][:_NEW_TEST], NEW_SETS[style][_NEW_TEST:]


def write_scene_dataset(
    folder: Path, seeds: Sequence[int], *, size: int = 256, style: SceneStyle = DEMO, quiet: bool = False
) -> Path:
    """Render one image per seed into ``folder/images`` and the truth into ``folder/instances.json``.

    Args:
        folder: Created if needed; equal seeds give equal bytes.
        seeds: Scene seeds; image ids count from 1 in their order, annotation ids count from 1 over all images.
        size: Side of the images in pixels.
        style: The generator.
    Returns: path of instances.json.
    """
    images_dir = folder / "images"
    with disk_errors(images_dir):
        images_dir.mkdir(parents=True, exist_ok=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id, seed in enumerate(progress_bar(seeds, desc="scenes", unit="image", quiet=quiet), start=1):
        scene = render_scene(seed, size, style=style)
        name = f"scene_{seed}.png"
        with atomic_path(images_dir / name) as temporary:
            Image.fromarray(scene.image).save(temporary, format="PNG", compress_level=1)
        images.append({"id": image_id, "file_name": name, "height": size, "width": size})
        annotations += _annotations(scene, image_id, first_id=len(annotations) + 1)
    categories = [{"id": index, "name": name} for index, name in enumerate(CLASS_NAMES, start=1)]
    truth = folder / "instances.json"
    write_json(truth, {"images": images, "annotations": annotations, "categories": categories})
    return truth


def _annotations(scene: Scene, image_id: int, first_id: int) -> list[dict[str, Any]]:
    annotations = []
    for index, class_index in enumerate(scene.class_index):
        mask = scene.instance_map == index + 1
        counts = encode_mask(mask).decode("ascii")
        box = xyxy_to_xywh(mask_to_box(mask)[None])[0]
        annotations.append(
            {
                "id": first_id + index,
                "image_id": image_id,
                "category_id": class_index + 1,
                "segmentation": {"size": list(mask.shape), "counts": counts},
                "bbox": [float(value) for value in box],
                "area": int(np.count_nonzero(mask)),
                "iscrowd": 0,
            }
        )
    return annotations
