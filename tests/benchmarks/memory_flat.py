"""Whether the memory of `generate-bags` is flat: its resident set after 10 % of many rendered images and at the end.

Prints one JSON line. Of 500 scenes each stands under many names, so that the disk need not hold 20,000 pictures.
"""

import argparse
import json
import os
import sys
import tempfile
import threading
import time
from pathlib import Path

from sapnet_pipe.data.points.reader import read_points
from sapnet_pipe.data.scenes.dataset import write_scene_dataset
from sapnet_pipe.stages.bags.config import BagsConfig
from sapnet_pipe.stages.bags.run import run

_SCENES = 500
_LOOK_SECONDS = 0.5
_MIB = 2**20


def write_images(folder: Path, images: int) -> Path:
    """A points file with the centre of every rendered image; names beyond the first are links."""
    scenes = folder / "scenes"
    write_scene_dataset(scenes, range(min(images, _SCENES)), quiet=True)
    files = sorted((scenes / "images").iterdir())
    (folder / "images").mkdir()
    for image_id in range(images):
        os.link(files[image_id % len(files)], folder / "images" / f"{image_id}.png")
    records = [{"id": n, "file_name": f"{n}.png", "height": 256, "width": 256} for n in range(images)]
    points = [{"id": n, "image_id": n, "category_id": 1, "point": [128, 128]} for n in range(images)]
    document = {"images": records, "categories": [{"id": 1, "name": "thing"}], "annotations": points}
    (folder / "points.json").write_text(json.dumps(document))
    return folder / "points.json"


class Watch(threading.Thread):
    """Notes how many shards are there and how large the process is, twice a second."""

    def __init__(self, store: Path) -> None:
        super().__init__(daemon=True)
        self.store, self.seen, self.done = store, list[tuple[int, int]](), threading.Event()

    def run(self) -> None:
        while not self.done.wait(_LOOK_SECONDS):
            shards = len(list(self.store.glob("bags-*.parquet")))
            self.seen.append((shards, resident_bytes()))


def resident_bytes() -> int:
    """The resident set of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--recipe", default="multimask")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        points = read_points(write_images(folder, arguments.images))
        watch = Watch(folder / "bags")
        watch.start()
        started = time.monotonic()
        config = BagsConfig(sam="tiny", recipe=arguments.recipe, device="cpu")
        summary = run(points, folder / "images", folder / "bags", config, quiet=True)
        watch.done.set()
        watch.join()
    tenth = next(size for shards, size in watch.seen if shards >= summary.shards / 10)
    last = watch.seen[-1][1]
    figures = {
        "images": summary.images,
        "seconds": round(time.monotonic() - started, 1),
        "rss_10_percent_mib": round(tenth / _MIB, 1),
        "rss_100_percent_mib": round(last / _MIB, 1),
        "rss_highest_after_10_percent_mib": round(
            max(size for shards, size in watch.seen if shards >= summary.shards / 10) / _MIB, 1
        ),
    }
    sys.stdout.write(json.dumps(figures) + "\n")


if __name__ == "__main__":
    main()
