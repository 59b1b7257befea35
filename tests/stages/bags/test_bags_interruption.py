"""`generate-bags` killed at random moments, and its memory, in processes of their own."""

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tests.places import child_environment

# One process imports torch once and forks every run, so that ten kills take seconds.
_KILL = """
import os, random, signal, sys, time
from pathlib import Path
import torch
from sapnet_pipe.data.points.reader import read_points
from sapnet_pipe.stages.bags.config import BagsConfig
from sapnet_pipe.stages.bags.run import run

torch.set_num_threads(1)
folder = Path(sys.argv[1])
points = read_points(folder / "points.json")
config = BagsConfig(sam="tiny", recipe="multimask", shard_images=1, device="cpu")

def forked(out, delay):
    started = time.monotonic()
    child = os.fork()
    if child == 0:
        run(points, folder / "images", out, config, quiet=True)
        os._exit(0)
    if delay is not None:
        time.sleep(delay)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return status, time.monotonic() - started

status, seconds = forked(folder / "whole", None)
assert status == 0, status
content = {path.name: path.read_bytes() for path in (folder / "whole").iterdir()}
rng = random.Random(0)
kills, store, shards_seen = 0, 0, set()
while kills < 10:
    out = folder / f"killed-{store}"
    status, _ = forked(out, rng.uniform(0.1, 0.7) * seconds)
    kills += os.WIFSIGNALED(status)
    shards_seen.add(len(list(out.glob("bags-*.parquet"))))
    if kills % 4 == 3 or status == 0:
        status, _ = forked(out, None)
        assert status == 0, status
        assert {path.name: path.read_bytes() for path in out.iterdir()} == content, out
        store += 1
status, _ = forked(out, None)
assert {path.name: path.read_bytes() for path in out.iterdir()} == content, out
sys.stdout.write(f"{kills} {len(shards_seen)}")
"""

_GROW = """
import json, resource, sys
from pathlib import Path
from sapnet_pipe.data.points.reader import read_points
from sapnet_pipe.stages.bags.config import BagsConfig
from sapnet_pipe.stages.bags.run import run

folder = Path(sys.argv[1])
run(read_points(folder / "points.json"), folder / "images", folder / "bags",
    BagsConfig(sam="tiny", recipe="multimask", device="cpu"), quiet=True)
sys.stdout.write(json.dumps(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))
"""


def _run(script, *arguments):
    environment = child_environment()
    command = [sys.executable, "-c", script, *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_store_killed_at_ten_random_moments_ends_byte_for_byte_the_same(tmp_path, points, images_dir):
    kills, stages = _run(_KILL, tmp_path).split()
    assert int(kills) == 10
    assert int(stages) >= 2  # the kills did hit runs at different stages


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_images(tmp_path):
    peaks = {count: json.loads(_run(_GROW, _many_images(tmp_path / str(count), count))) for count in (200, 2000)}
    assert peaks[2000] - peaks[200] < 200, peaks


def _many_images(folder, count):
    """A points file with one point on each of `count` small noisy images."""
    (folder / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for image_id in range(count):
        Image.fromarray(rng.integers(0, 256, (60, 80, 3), dtype=np.uint8)).save(folder / "images" / f"{image_id}.jpg")
    document = {
        "images": [{"id": i, "file_name": f"{i}.jpg", "height": 60, "width": 80} for i in range(count)],
        "categories": [{"id": 1, "name": "egg"}],
        "annotations": [{"id": i, "image_id": i, "category_id": 1, "point": [40, 30]} for i in range(count)],
    }
    (folder / "points.json").write_text(json.dumps(document))
    return folder
