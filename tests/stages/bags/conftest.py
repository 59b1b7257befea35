"""A small set of images and points, a real tiny SAM, and the real photographs where they are at hand."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sapnet_pipe.data.bag_store.masks import MaskFigures
from sapnet_pipe.data.coco.instances import Category, ImageRecord
from sapnet_pipe.data.points.point_set import build_point_set
from sapnet_pipe.data.points.reader import PointSet, read_points, write_points
from sapnet_pipe.stages.bags import worker
from sapnet_pipe.stages.bags.config import BagsConfig
from sapnet_pipe.stages.bags.sam.adapter import load_sam
from sapnet_pipe.stages.bags.sam.checkpoints import TINY_WEIGHTS
from sapnet_pipe.stages.bags.sam.decoded_masks import DecodedMasks, masks_in_memory
from tests.places import SHARED


@pytest.fixture(scope="session")
def photographs() -> list[np.ndarray]:
    """Five photographs, (H, W, 3) uint8; skips where they are absent."""
    files = sorted((SHARED / "data" / "tiny-coco" / "images" / "val2017").glob("*.jpg"))[:5]
    if not files:
        pytest.skip(f"no photographs in {SHARED}: set SAPNET_SHARED to the folder that holds data/tiny-coco")
    return [np.array(Image.open(file).convert("RGB")) for file in files]


@pytest.fixture(scope="session")
def tiny_sam():
    return load_sam("tiny", TINY_WEIGHTS, torch.device("cpu"))


@pytest.fixture
def images_dir(tmp_path) -> Path:
    """Seven small images of two sizes with a bright ellipse; ids 11, 14, ... in the reverse order of their names."""
    folder = tmp_path / "images"
    folder.mkdir()
    for place in range(7):
        Image.fromarray(ellipse(place)).save(folder / f"{9 - place}.png")
    return folder


def ellipse(place: int) -> np.ndarray:
    """(48, 64, 3), or every third (64, 48, 3): a noisy ground with one ellipse."""
    height, width = (64, 48) if place % 3 == 2 else (48, 64)
    rows, columns = np.mgrid[:height, :width]
    inside = ((rows - 25) / (8 + place)) ** 2 + ((columns - 22 - place) / 14) ** 2 < 1
    image = np.random.default_rng(place).integers(0, 60, (height, width, 3))
    image[inside] += np.array([150, 40 + 10 * place, 30])
    return image.astype(np.uint8)


@pytest.fixture
def points(tmp_path, images_dir) -> PointSet:
    """Two points on every image but the last, which has none; read back from a file."""
    images = {}
    for place in range(7):
        height, width = ellipse(place).shape[:2]
        images[11 + 3 * place] = ImageRecord(11 + 3 * place, f"{9 - place}.png", height, width)
    rows = [
        (image_id, 1000 - 10 * place + side, 5 if side else 2, 20.5 + 9 * side, 25.25)
        for place, image_id in enumerate(list(images)[:-1])
        for side in (0, 1)
    ]
    path = tmp_path / "points.json"
    write_points(path, build_point_set(path, images, (Category(2, "egg"), Category(5, "stone")), rows, {"crowd": 1}))
    return read_points(path)


def decoded_of(masks, score, stability, token) -> DecodedMasks:
    """(M, H, W) masks as SAM's decoder would give them."""
    binary = masks_in_memory(masks)
    figures = MaskFigures(
        box_xyxy=binary.box_xyxy, area=binary.area, score=score, stability=stability, source=np.array(token, np.int8)
    )
    return DecodedMasks(binary.make_rle, figures)


class BrightnessSam:
    """In SAM's place where only what happens around it is tested: masks are thresholds of the image's brightness."""

    def prepare(self, image):
        return image.astype(np.float32).mean(axis=2)

    def encode(self, images):
        return images

    def point_masks(self, image, point_xy):
        values = [image[int(y), int(x)] for x, y in point_xy]
        return [
            self._masks(image >= np.array([value - 20, value, 0])[:, None, None], np.array([1, 2, 3]))
            for value in values
        ]

    def box_masks(self, image, point_xy, box_xyxy):
        columns, rows = np.arange(image.shape[1]), np.arange(image.shape[0])[:, None]
        inside = [(columns >= x1) & (columns < x2 - 3) & (rows >= y1) & (rows < y2) for x1, y1, x2, y2 in box_xyxy]
        return [self._masks(mask[None], np.zeros(1)) for mask in inside]

    def _masks(self, masks, token):
        share = masks.mean(axis=(1, 2)).astype(np.float32)
        return decoded_of(masks, 1 - share, share, token.astype(np.int8))


@pytest.fixture
def brightness_sam(monkeypatch):
    """Let a worker take the tiny SAM's weights file, but a `BrightnessSam` instead of the network."""
    monkeypatch.setattr(worker, "load_sam", lambda *_: BrightnessSam())


@pytest.fixture
def config() -> BagsConfig:
    return BagsConfig(sam="tiny", shard_images=2, device="cpu")
