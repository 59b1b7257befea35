"""How fast stage one is: `make bench-bags [IMAGES=folder]`. The last line of the output is one JSON object.

Everything is measured in one run, on the same photographs (rendered scenes if there are none) and the same weights
(ViT-B with random ones, at 1024 px), interleaved, as medians of ROUNDS:

(a) the loop that people write: `SamPredictor.set_image`, `predict` per point, pycocotools per mask, one JSON;
(b) the exact path and (c) the fast one: a shard by the worker, from the image file to the shard's bytes on the disk.

Each ratio says how many times the second is slower than the first, but for `stage_vs_model`: the rate of the whole
stage over that of the bare network (encoder and decoder alone) on the same inputs. The tiny SAM's is shown apart.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image
from pycocotools import mask as coco_mask
from segment_anything import SamPredictor, sam_model_registry

from sapnet_pipe.data.bag_store.schema import ShardLabel, encode_shard
from sapnet_pipe.data.coco.instances import Category, ImageRecord
from sapnet_pipe.data.files import write_bytes
from sapnet_pipe.data.images import read_image
from sapnet_pipe.data.points.point_set import PointSet, build_point_set
from sapnet_pipe.data.scenes.dataset import DEMO_TRAIN
from sapnet_pipe.data.scenes.scene import render_scene
from sapnet_pipe.stages.bags.config import BagsConfig
from sapnet_pipe.stages.bags.recipes import RECIPES, make_bag, prompt
from sapnet_pipe.stages.bags.sam.adapter import EncodedImage
from sapnet_pipe.stages.bags.worker import BagJob, BagWorker, points_of
from sapnet_pipe.stages.training.devices import limit_threads
from tests.benchmarks.store_figures import store_figures
from tests.places import SHARED

ROUNDS, MANY, USUAL = 5, 20, 7  # USUAL: points of an image of COCO
STORED_POINTS, SCENES, ENLARGED = 100_000, 40, 2
PHOTOGRAPHS = SHARED / "data/tiny-coco/images/val2017"


class Clock:
    """Seconds by name, in the order in which they were taken."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = defaultdict(list)

    def time(self, name: str, call: Callable[[], Any]) -> Any:
        """Call and remember how long it took."""
        began = time.perf_counter()
        result = call()
        self.seconds[name].append(time.perf_counter() - began)
        return result

    def ratio(self, slow: str, fast: str) -> float:
        """Median of the rounds' ratios."""
        return statistics.median(a / b for a, b in zip(self.seconds[slow], self.seconds[fast], strict=True))


def main() -> None:
    """Measure, print a table of medians and the line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, default=PHOTOGRAPHS, help="Folder of photographs.")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--model", default="vit_b", choices=["vit_b", "vit_l", "vit_h"])
    parser.add_argument("--device", default="auto")
    given = parser.parse_args()
    limit_threads()
    with tempfile.TemporaryDirectory() as folder:
        files = image_files(given.images, Path(folder))
        checkpoint = random_weights(given.model, Path(folder))
        clock = Clock()
        speeds = Speeds(given.model, checkpoint, files, Path(folder), given.device)
        for number in range(given.rounds):
            speeds.round(clock, number)
            say(f"round {number + 1} of {given.rounds} done")
        result = {
            "exact_vs_loop_1": clock.ratio("loop, 1 point", "exact, 1 point"),
            "exact_vs_loop_20": clock.ratio("loop, 20 points", "exact, 20 points"),
            "decode_20_vs_loop": clock.ratio("loop, decode and RLE of 20", "exact, decode and RLE of 20"),
            "fast_vs_exact_vit_b": clock.ratio("exact, 1 point", "fast, 1 point"),
            "fast_vs_exact_vit_b_20": clock.ratio("exact, 20 points", "fast, 20 points"),
            "stage_vs_model": clock.ratio("fast model alone", "fast stage"),
            "stage_vs_model_tiny": tiny_stage_vs_model(files, clock, given.rounds, given.device),
        }
        say(table(clock))
        bags = tiny_bags(Path(folder), given.device)
    figures = store_figures(STORED_POINTS, bags=bags)
    say(", ".join(f"{name} {value}" for name, value in figures.items()))
    result |= {name: figures[name] for name in ("store_size_vs_json", "store_boxes_vs_json")}
    say(json.dumps({name: round(value, 3) for name, value in result.items()}))


class Speeds:
    """The loop, the exact and the fast path with one set of weights."""

    def __init__(self, model: str, checkpoint: Path, files: Sequence[Path], folder: Path, device: str) -> None:
        sam = sam_model_registry[model]().eval()
        sam.load_state_dict(torch.load(checkpoint, weights_only=True))
        self._folder, self._files = folder, files
        settings: dict[str, Any] = {"sam": model, "checkpoint": checkpoint, "recipe": "multimask", "device": device}
        self._exact, self._fast = BagsConfig(**settings), BagsConfig(**settings, fast=True)
        self._workers: dict[bool, BagWorker] = {}
        empty = job_of(files, 1, self._exact)
        for config in (self._exact, self._fast):
            self._workers[config.fast] = BagWorker(BagJob(empty.points, empty.files, config), quiet=True)
        place = self._workers[False].device
        self._loop = SamPredictor(sam.to(place))
        self._together = 1 if place.type == "cpu" else 32  # enough work for a GPU to hide the host behind
        if place.type != "cpu":
            self.round(Clock(), 0)

    def round(self, clock: Clock, number: int) -> None:
        """One of each, on the images of this round."""
        file = self._files[number % len(self._files)]
        for points in (1, MANY):
            count = f"{points} point{'s' if points > 1 else ''}"
            job = job_of([file], points, self._exact)
            clock.time(f"loop, {count}", partial(self.loop, job, clock if points > 1 else Clock()))
            clock.time(f"exact, {count}", partial(self.stage, job, False))
            clock.time(f"fast, {count}", partial(self.stage, job, True))
        self.decode(job, clock, check=number == 0)
        usual = job_of(
            [self._files[(number + place) % len(self._files)] for place in range(self._together)], USUAL, self._fast
        )
        clock.time("fast stage", lambda: self.stage(usual, True))
        bare_model(self._workers[True], usual, clock, "fast model alone")

    def loop(self, job: BagJob, clock: Clock) -> None:
        """(a): from the file to JSON."""
        annotations: list[dict[str, Any]] = []
        for image_id, file in job.files.items():
            self._loop.set_image(np.array(Image.open(file).convert("RGB")))
            points = list(points_of(job.points, image_id))
            annotations += clock.time("loop, decode and RLE of 20", partial(self._predicted, points))
        (self._folder / "loop.json").write_text(json.dumps(annotations))

    def _predicted(self, points: Sequence[Any]) -> list[dict[str, Any]]:
        annotations = []
        for point in points:
            masks, scores, _ = self._loop.predict(np.array([point.xy]), np.ones(1, int), multimask_output=True)
            codes = [coco_mask.encode(np.asfortranarray(mask)) for mask in masks]
            annotations.append(
                {
                    "id": point.point_id,
                    "segmentation": [{"size": code["size"], "counts": code["counts"].decode()} for code in codes],
                    "bbox": [coco_mask.toBbox(code).tolist() for code in codes],
                    "score": scores.tolist(),
                }
            )
        return annotations

    def stage(self, job: BagJob, fast: bool) -> None:
        """(b) or (c): from the files to a shard on the disk."""
        worker = self._workers[fast].for_job(job)
        made = worker.make_shard(sorted(job.files))
        write_bytes(self._folder / "shard.parquet", encode_shard(made.bags, ShardLabel("0", 0, made.dropped)))

    def decode(self, job: BagJob, clock: Clock, *, check: bool) -> None:
        """Decoding and codes of the points of one image, whose features the loop left behind."""
        sam, image = self._workers[False].sam, self._loop
        points, record = list(points_of(job.points, 1)), job.points.images[1]
        recipe = RECIPES["multimask"]

        def ours() -> list[Any]:
            encoded = EncodedImage(image.features, sam.position_code(), image.original_size, image.input_size)
            return [make_bag(record, one, recipe)[0] for one in prompt(sam, encoded, points, recipe)]

        bags = clock.time("exact, decode and RLE of 20", ours)
        for bag, annotation in zip(bags, self._predicted(points), strict=True) if check else ():
            codes = [code["counts"].encode() for code in annotation["segmentation"]]
            filled = [code for code in codes if coco_mask.area({"size": list(image.original_size), "counts": code})]
            if bag.masks.rle != filled:
                raise SystemExit(f"point {bag.point_id}: the masks are not those of SamPredictor")


def bare_model(worker: BagWorker, job: BagJob, clock: Clock, name: str) -> None:
    """Encoder and decoder alone; images are read and scaled before, codes are not made."""
    records = job.points.images
    ready = [
        worker.sam.prepare(read_image(file, records[image_id].height, records[image_id].width))
        for image_id, file in job.files.items()
    ]
    batch = worker.batch

    def forward() -> None:
        image_ids = iter(job.files)
        for start in range(0, len(ready), batch):
            for encoded in worker.sam.encode(ready[start : start + batch]):
                prompt(worker.sam, encoded, list(points_of(job.points, next(image_ids))), RECIPES[job.config.recipe])

    clock.time(name, forward)


def tiny_stage_vs_model(files: Sequence[Path], clock: Clock, rounds: int, device: str) -> float:
    """`stage_vs_model` of the tiny SAM, whose network takes so little that the codes are not hidden behind it."""
    job = job_of(list(files)[:16], USUAL, BagsConfig(sam="tiny", recipe="multimask", device=device))
    worker = BagWorker(job, quiet=True)
    for _ in range(rounds):
        clock.time("tiny stage", lambda: worker.make_shard(sorted(job.files)))
        bare_model(worker, job, clock, "tiny model alone")
    return clock.ratio("tiny model alone", "tiny stage")


def tiny_bags(folder: Path, device: str) -> list[Any]:
    """Real bags for the figures of the store: the tiny SAM's for a click on every object of scenes of COCO's size."""
    images: dict[int, ImageRecord] = {}
    files: dict[int, Path] = {}
    rows: list[tuple[int, int, int, float, float]] = []
    for image_id, seed in enumerate(DEMO_TRAIN[:SCENES], start=1):
        scene, rng = render_scene(seed), np.random.default_rng(seed)
        files[image_id] = folder / f"scene-{seed}.png"
        enlarged = cv2.resize(scene.image, None, fx=ENLARGED, fy=ENLARGED, interpolation=cv2.INTER_CUBIC)
        Image.fromarray(enlarged).save(files[image_id])
        images[image_id] = ImageRecord(image_id, files[image_id].name, *enlarged.shape[:2])
        for label in range(1, len(scene.class_index) + 1):
            y, x = ENLARGED * (rng.choice(np.argwhere(scene.instance_map == label)) + 0.5)
            rows.append((image_id, len(rows) + 1, 1, float(x), float(y)))
    points = build_point_set(Path("points.json"), images, (Category(1, "thing"),), rows, {})
    job = BagJob(points, files, BagsConfig(sam="tiny", device=device))
    return BagWorker(job, quiet=True).make_shard(sorted(files)).bags


def job_of(files: Sequence[Path], points: int, config: BagsConfig) -> BagJob:
    """A job of `points` random points on each file; image ids count from 1."""
    images, rows = {}, []
    for image_id, file in enumerate(files, start=1):
        with Image.open(file) as image:
            width, height = image.size
        images[image_id] = ImageRecord(image_id, file.name, height, width)
        xy = np.random.default_rng(image_id).uniform(0, (width, height), (points, 2)).astype(np.float32)
        rows += [(image_id, image_id * 1000 + place, 1, *pair) for place, pair in enumerate(xy.tolist())]
    point_set: PointSet = build_point_set(Path("points.json"), images, (Category(1, "thing"),), rows, {})
    return BagJob(point_set, dict(enumerate(files, start=1)), config)


def image_files(folder: Path, scratch: Path) -> list[Path]:
    """The photographs of `folder`, or 16 rendered scenes of COCO's size."""
    files = sorted(path for path in folder.glob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    if files:
        say(f"{len(files)} photographs of {folder}")
        return files
    say(f"no photographs in {folder}: rendered scenes")
    for seed in DEMO_TRAIN[:16]:
        scene = cv2.resize(render_scene(seed).image, (640, 640), interpolation=cv2.INTER_CUBIC)[:480]
        Image.fromarray(scene).save(scratch / f"{seed}.jpg", quality=95)
    return sorted(scratch.glob("*.jpg"))


def random_weights(model: str, folder: Path) -> Path:
    """A checkpoint of random weights, also where the package starts from zeros (position codes)."""
    torch.manual_seed(0)
    sam = sam_model_registry[model]()
    with torch.no_grad():
        for name, parameter in sam.named_parameters():
            if "pos" in name:
                parameter.normal_(std=0.02)
    torch.save(sam.state_dict(), folder / f"{model}.pth")
    return folder / f"{model}.pth"


def table(clock: Clock) -> str:
    """Medians of all that was timed."""
    rows = [f"{name:<30} {statistics.median(taken):8.3f} s" for name, taken in clock.seconds.items()]
    return "\n".join([f"{torch.get_num_threads()} threads; medians", *rows])


def say(text: str) -> None:
    """Print, at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
