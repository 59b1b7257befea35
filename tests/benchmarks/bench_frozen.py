"""How much faster a variant is under ``--frozen`` than in full; a part of `make bench-select`.

Photographs of noise with boxes anywhere, as many and as large as the demo's: 240 of 256 pixels, five points each, five
masks in a bag, the preset ``demo``. What is compared is everything that a variant costs once the features are there:
reading the store, training, choosing, writing the labels. Of the full training a part is run, and its steps are scaled
to the preset's length.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sapnet_pipe.data.bag_store.manifest import BagIdentity
from sapnet_pipe.data.bag_store.masks import MaskColumns
from sapnet_pipe.data.bag_store.schema import Bag
from sapnet_pipe.data.bag_store.store import BagStore
from sapnet_pipe.data.bag_store.writer import open_writer
from sapnet_pipe.data.coco.instances import Category
from sapnet_pipe.data.coco.masks import encode_masks
from sapnet_pipe.pipeline.settings import resolve_settings
from sapnet_pipe.stages.select.config import SelectConfig
from sapnet_pipe.stages.select.presets import PRESETS
from sapnet_pipe.stages.select.run import SelectSummary, run

SIDE, IMAGES, POINTS, MASKS, CLASSES = 256, 240, 5, 5, 8
STEPS = 60  # of the full training that are run


def bench_frozen() -> dict[str, float]:
    """Seconds of one variant in full and under ``--frozen``, their ratio, and images per second of full training."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = _write(folder)
        length = _settings().train.max_iterations
        warm = _train(store, folder, "warm", {"train": {"max_iterations": 10}})
        part = _train(store, folder, "full", {"train": {"max_iterations": STEPS}})
        step = (_seconds(part) - _seconds(warm)) / (STEPS - 10)
        full = part.seconds - _seconds(part) + length * step
        _train(store, folder, "features", {"frozen": {"enabled": True, "max_iterations": 1}})
        frozen = min(_train(store, folder, f"frozen {k}", {"frozen": {"enabled": True}}).seconds for k in range(2))
    return {
        "full_s": round(full, 2),
        "frozen_s": round(frozen, 2),
        "frozen_vs_full": round(full / frozen, 1),
        "full_images_per_s_256": round(_settings().train.batch_size / step, 1),
    }


def _settings(changes: dict[str, Any] | None = None) -> SelectConfig:
    return resolve_settings(
        SelectConfig, preset=PRESETS["demo"], flags={"guard": {"enabled": False}, **(changes or {})}
    )


def _train(store: BagStore, folder: Path, name: str, changes: dict[str, Any]) -> SelectSummary:
    out = folder / name
    out.mkdir()
    return run(store, folder, out, _settings(changes), quiet=True)


def _seconds(summary: SelectSummary) -> float:
    return float((summary.training or {})["seconds"])


def _write(folder: Path) -> BagStore:
    rng = np.random.default_rng(0)
    for image in range(1, IMAGES + 1):
        Image.fromarray(rng.integers(0, 255, (SIDE, SIDE, 3), np.uint8)).save(folder / f"{image}.png", compress_level=1)
    categories = [Category(index, f"class {index}") for index in range(1, CLASSES + 1)]
    identity = BagIdentity("none", "0" * 64, "noise", {}, "float32", "0" * 64, IMAGES)
    with open_writer(folder / "bags", identity, categories, 1) as writer:
        writer.write_shard(0, list(_bags(rng)), {})
        writer.finish({})
    return BagStore.open(folder / "bags")


def _bags(rng: np.random.Generator) -> Iterator[Bag]:
    for index in range(IMAGES * POINTS):
        masks = np.zeros((MASKS, SIDE, SIDE), bool)
        x, y = rng.integers(30, SIDE - 30, 2)
        for mask in masks:
            left, up, right, down = rng.integers(5, 30, 4)
            mask[y - up : y + down, x - left : x + right] = True
        scores, image = rng.uniform(0.5, 0.9, (2, MASKS)).astype(np.float32), index // POINTS + 1
        source = np.arange(1, MASKS + 1, dtype=np.int8)
        yield Bag(
            image, f"{image}.png", SIDE, SIDE, index + 1, int(rng.integers(1, CLASSES + 1)), (float(x), float(y)),
            MaskColumns.from_rle(
                encode_masks(masks), SIDE, SIDE, score=scores[0], stability=scores[1], source=source
            ),
        )  # fmt: skip
