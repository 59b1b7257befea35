"""COCO's size: 850,000 points of 6 masks."""

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from sapnet_pipe.data.bag_store.masks import MaskFigures
from sapnet_pipe.data.bag_store.table import BagTable, baseline_choice
from sapnet_pipe.data.coco.instances import Category
from sapnet_pipe.data.labels.explanations import Selection
from sapnet_pipe.stages.select.batches.bag_images import group_images
from sapnet_pipe.stages.select.selection.baselines import select_baseline
from tests.places import child_environment

POINTS, MASKS, PER_IMAGE = 850_000, 6, 7

_WRITE = """
import dataclasses, sys
from pathlib import Path
from sapnet_pipe.data.bag_store.manifest import BagIdentity
from sapnet_pipe.data.bag_store.masks import MaskColumns
from sapnet_pipe.data.bag_store.writer import open_writer
import numpy as np, toy_store as toy
from sapnet_pipe.data.coco.instances import Category

rng = np.random.default_rng(0)
masks = np.stack([toy._square(4, 8, side) for side in (5, 9, 14, 20, 28, 34)])
bag = toy._bag(1, 1, 1, (8.5, 12.5), masks[:3], rng)
bag = dataclasses.replace(bag, masks=MaskColumns.concat([bag.masks, bag.masks]))
images = 850_000 // 7
shards = [range(start, min(start + 1000, images)) for start in range(0, images, 1000)]
with open_writer(Path(sys.argv[1]) / "bags", BagIdentity("toy", "0" * 64, "toy", {}, "float32", "0" * 64, 1000),
                 [Category(1, "a")], len(shards)) as writer:
    for index, shard in enumerate(shards):
        writer.write_shard(index, [dataclasses.replace(bag, image_id=image, file_name=f"{image:012d}.jpg", point_id=row)
                                   for image in shard for row in range(image * 7, image * 7 + 7)], {})
    writer.finish({})
"""

_SELECT = """
import json, resource, sys
from pathlib import Path
from sapnet_pipe.data.bag_store.store import BagStore
from sapnet_pipe.stages.select.config import SelectConfig
from sapnet_pipe.stages.select.run import run

folder = Path(sys.argv[1])
summary = run(BagStore.open(folder / "bags"), folder, folder / "out", SelectConfig(method="sam-top1"), quiet=True)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
sys.stdout.write(json.dumps({"labels": summary.labels, "mib": peak}))
"""


def coco_sized_table() -> BagTable:
    rng = np.random.default_rng(0)
    total = POINTS * MASKS
    image = np.arange(POINTS) // PER_IMAGE
    corner = rng.random((total, 2), np.float32) * 400
    return BagTable(
        image_id=image.astype(np.int64), file_name=np.array(["a.jpg"], object)[np.zeros(POINTS, np.int64)],
        height=np.full(POINTS, 480, np.int32), width=np.full(POINTS, 640, np.int32),
        point_id=np.arange(POINTS), category_id=rng.integers(1, 81, POINTS).astype(np.int32),
        point_xy=rng.random((POINTS, 2), np.float32) * 400, offsets=np.arange(0, total + 1, MASKS),
        masks=MaskFigures(
            box_xyxy=np.concatenate([corner, corner + 50], axis=1), score=rng.random(total, np.float32),
            stability=np.ones(total, np.float32), area=np.full(total, 2500, np.int32), source=np.ones(total, np.int8),
        ),
    )  # fmt: skip


def test_the_bags_of_coco_are_grouped_and_chosen_from_in_seconds() -> None:
    table = coco_sized_table()
    began = time.perf_counter()
    images = group_images(table, tuple(Category(i, str(i)) for i in range(1, 81)), Path(), Path())
    selection = Selection.concat(list(select_baseline(table, baseline_choice(table, "sam-top1"))))
    seconds = time.perf_counter() - began
    assert len(images) == -(-POINTS // PER_IMAGE)
    assert (selection.score[:9] == table.masks.score.reshape(-1, MASKS).max(axis=1)[:9]).all()
    assert seconds < 30, seconds


@pytest.mark.slow
def test_a_whole_selection_at_the_size_of_coco_stays_under_2_gb(tmp_path: Path) -> None:
    environment = child_environment()
    for script in (_WRITE, _SELECT):
        done = subprocess.run(
            [sys.executable, "-c", script, tmp_path], env=environment, check=True, capture_output=True
        )
    figures = json.loads(done.stdout)
    assert figures["labels"] == 849_996
    assert figures["mib"] < 2000, figures
