"""`generate-bags --ray auto` on a cluster of this machine, whose workers are killed."""

import contextlib
import itertools
import os
import random
import signal
import threading
import time
from pathlib import Path

import pytest
from PIL import Image

from sapnet_pipe.data.bag_store.writer import BagWriter
from sapnet_pipe.data.errors import UserError
from sapnet_pipe.stages.bags.run import run
from sapnet_pipe.stages.bags.verify import verify

pytest.importorskip("ray", reason="Ray is not installed: run `make test-scale`")
pytestmark = pytest.mark.slow


@pytest.fixture
def on_ray(config, monkeypatch):
    """Settings for three workers, one image a shard, on a cluster that the run starts."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    return config.model_copy(update={"shard_images": 1, "ray": "auto", "workers": 3})


def _bytes_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def _here(tmp_path, points, images_dir, on_ray):
    run(points, images_dir, tmp_path / "here", on_ray.model_copy(update={"ray": None}), quiet=True)
    return _bytes_of(tmp_path / "here")


def _workers():
    """The processes of the workers that this process started, loading or at work."""
    parents, titles = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError):
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            titles[int(folder.name)] = (folder / "cmdline").read_bytes()
    for process, title in titles.items():
        ancestor = process
        while ancestor in parents and ancestor != os.getpid():
            ancestor = parents[ancestor]
        if ancestor == os.getpid() and b"ray::ShardMaker" in title:
            yield process


class _Killer(threading.Thread):
    """Kills a random worker at random moments, so many times."""

    def __init__(self, times, rng):
        super().__init__(daemon=True)
        self._times, self._rng, self.kills = times, rng, 0
        self.first, self.done = threading.Event(), threading.Event()

    def run(self):
        while self.kills < self._times and not self.done.wait(self._rng.uniform(0.1, 2.0)):
            workers = list(_workers())
            if workers:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self._rng.choice(workers), signal.SIGKILL)
                    self.kills += 1
                    self.first.set()


_ADD = BagWriter.add_encoded


def _after(event):
    """The writing of a shard, which waits for `event`: a run is never over before its first kill."""

    def add(writer, index, content):
        assert event.wait(120), "no worker to kill in two minutes"
        return _ADD(writer, index, content)

    return add


def test_three_workers_write_the_bytes_of_one_process(tmp_path, points, images_dir, on_ray):
    summary = run(points, images_dir, tmp_path / "ray", on_ray, quiet=True)
    assert summary.shards_made == 6
    assert _bytes_of(tmp_path / "ray") == _here(tmp_path, points, images_dir, on_ray)


def test_workers_killed_at_twenty_random_moments_cost_only_time(tmp_path, points, images_dir, on_ray, monkeypatch):
    whole, rng, kills = _here(tmp_path, points, images_dir, on_ray), random.Random(0), 0
    for number in itertools.count():
        if kills == 20:
            break
        out = tmp_path / f"killed-{number}"
        killer = _Killer(min(10, 20 - kills), rng)
        monkeypatch.setattr(BagWriter, "add_encoded", _after(killer.first))
        killer.start()
        run(points, images_dir, out, on_ray, quiet=True)
        killer.done.set()
        killer.join()
        kills += killer.kills
        verify(out, quiet=True)
        assert _bytes_of(out) == whole


def test_an_image_that_a_worker_cannot_read_is_named_and_what_is_finished_stays(tmp_path, points, images_dir, on_ray):
    whole = _here(tmp_path, points, images_dir, on_ray)
    bad = images_dir / "4.png"
    content = bad.read_bytes()
    Image.open(bad).save(bad, "JPEG")
    bad.write_bytes(bad.read_bytes()[:900])
    with pytest.raises(UserError, match=r"points\.json: images\[id=26\]\.file_name.*damaged image"):
        run(points, images_dir, tmp_path / "ray", on_ray, quiet=True)
    tolerant = on_ray.model_copy(update={"max_failure_rate": 0.2})
    assert run(points, images_dir, tmp_path / "ray", tolerant, quiet=True).failed_images == 1
    bad.write_bytes(content)
    run(points, images_dir, tmp_path / "ray", on_ray.model_copy(update={"retry_failed": True}), quiet=True)
    assert _bytes_of(tmp_path / "ray") == whole


def test_a_cluster_that_is_not_there_is_the_users_to_fix(tmp_path, points, images_dir, on_ray):
    started = time.monotonic()
    nowhere = on_ray.model_copy(update={"ray": "127.0.0.1:1"})
    with pytest.raises(UserError, match=r"--ray: address = 127.0.0.1:1, where no Ray cluster answers"):
        run(points, images_dir, tmp_path / "ray", nowhere, quiet=True)
    assert time.monotonic() - started < 120
