import json
import subprocess
import sys

import pytest

from tests.places import child_environment

_WRITE = """
import dataclasses, sys
from pathlib import Path
from tests.data.bag_store.bag_examples import CATEGORIES, identity, make_bag
from sapnet_pipe.data.bag_store.writer import open_writer

POINTS, PER_IMAGE, SHARD_IMAGES = 850_000, 7, 64
templates = [make_bag(image, point, 6) for image in range(5) for point in range(7)]
images = POINTS // PER_IMAGE
shards = [range(start, min(start + SHARD_IMAGES, images)) for start in range(0, images, SHARD_IMAGES)]
with open_writer(Path(sys.argv[1]), identity(), CATEGORIES, len(shards)) as writer:
    for index, shard in enumerate(shards):
        writer.write_shard(index, [
            dataclasses.replace(templates[row % 35], image_id=image, file_name=f"{image:012d}.jpg", point_id=row)
            for image in shard for row in range(image * PER_IMAGE, (image + 1) * PER_IMAGE)
        ], {})
    writer.finish({})
"""

_READ = """
import json, resource, sys, time
from pathlib import Path
from sapnet_pipe.data.bag_store.store import BagStore

start = time.monotonic()
store = BagStore.open(Path(sys.argv[1]))
table = store.read_table()
seconds = time.monotonic() - start
start = time.monotonic()
for image in range(0, 100_000, 1000):
    store.read_masks(image)
per_image = (time.monotonic() - start) / 100
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
sys.stdout.write(json.dumps({"points": len(table), "masks": len(table.masks), "seconds": seconds, "mib": peak,
                             "seconds_per_image": per_image}))
"""


@pytest.mark.slow
def test_the_boxes_of_850000_points_load_in_seconds_and_little_memory(tmp_path):
    environment = child_environment()
    for script in (_WRITE, _READ):
        done = subprocess.run(
            [sys.executable, "-c", script, tmp_path], env=environment, check=True, capture_output=True
        )
    figures = json.loads(done.stdout)
    assert figures["points"] == 849_996  # whole images of seven points
    assert figures["masks"] == 6 * figures["points"]
    assert figures["seconds"] < 20, figures
    assert figures["mib"] < 2000, figures
    assert figures["seconds_per_image"] < 0.1, figures
