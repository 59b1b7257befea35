"""The bundled job: rendered scenes through all three stages, a table of what each part is worth, and pictures."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import typer

from data.files import write_bytes
from data.scenes.dataset import write_scene_dataset
from data.scenes.seeds import DEMO_TEST, DEMO_TRAIN
from pipeline.demo_pictures import draw_test_pictures, draw_training_pictures
from pipeline.jobs.bags import generate_bags, inspect_bags
from pipeline.jobs.evaluate import evaluate
from pipeline.jobs.points import make_points
from pipeline.jobs.segment import predict, train_seg
from pipeline.jobs.select import select
from pipeline.outputs import require_empty_folder
from pipeline.report import Report, table

_FIXED = ("sam-top1", "largest", "token-1", "token-2", "token-3")


@dataclass(frozen=True)
class DemoSize:
    """How much the demo renders and trains; iterations of None are those of the preset ``demo``."""

    train_scenes: int = 240
    test_scenes: int = 80
    pictures: int = 16
    select_iterations: int | None = None
    segment_iterations: int | None = None


@dataclass
class _Clock:
    """Seconds by step, in the order of the steps."""

    quiet: bool
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str, title: str) -> Iterator[None]:
        if not self.quiet:
            typer.echo(f"== {title}")
        started = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - started, 1)


def run_demo(out: Path, *, seed: int, quiet: bool, size: DemoSize | None = None) -> Report:
    """Run the demo in the new folder `out`.

    The selector and the first segmenter see points and categories only. The true masks are used to measure, and to
    train the second segmenter, which is the yardstick.
    """
    size = size or DemoSize()
    require_empty_folder(out)
    clock = _Clock(quiet)
    train, test, points, bags = out / "train", out / "test", out / "points.json", out / "bags"
    with clock.step("scenes", f"{size.train_scenes} training and {size.test_scenes} test scenes, one point per object"):
        truth = write_scene_dataset(train, DEMO_TRAIN[: size.train_scenes], quiet=quiet)
        test_truth = write_scene_dataset(test, DEMO_TEST[: size.test_scenes], quiet=quiet)
        make_points(truth, points, strategy="quasi-center", seed=seed, quiet=True)
    with clock.step("bags", "stage one: bags of masks from the tiny SAM"):
        generate_bags(points, train / "images", bags, flags={"sam": "tiny"}, quiet=quiet)
        miou = _fixed_choices(bags, truth)
    for method in ("single-mil", "sapnet"):
        with clock.step(method, f"stage two: {method} learns which mask is the object"):
            miou[method] = _select(bags, train / "images", out / method, method, truth, seed, size, quiet)
    ap: dict[str, Any] = {}
    for name, labels in (("pseudo", out / "sapnet" / "pseudo_labels.json"), ("true", truth)):
        with clock.step(f"solov2_{name}", f"stage three: SOLOv2 trained on {name} masks"):
            ap[name] = _segment(labels, train / "images", out / f"solov2-{name}", test, test_truth, seed, size, quiet)
    with clock.step("pictures", "pictures"):
        predictions = out / "solov2-pseudo" / "train_predictions.json"
        predict(out / "solov2-pseudo", train / "images", predictions, images_json=truth, quiet=quiet)
        draw_training_pictures(out, predictions, size.pictures)
        draw_test_pictures(out, size.pictures)
    result = _result(miou, ap, clock.seconds)
    write_bytes(out / "table.txt", demo_table(result).encode())
    return Report(
        demo_table(result), result, f"look at {out / 'pictures'}, then run the stages on your own photographs"
    )


def demo_table(result: Mapping[str, Any]) -> str:
    """The table of mask quality and average precision."""
    miou, ap = result["miou"], result["ap"]
    rows = [
        ("SAM top-1 (SAM's own score)", miou["sam_top1"]),
        ("always the largest mask", miou["largest"]),
        *((f"always token {k}", miou[f"token_{k}"]) for k in (1, 2, 3)),
        ("single MIL", miou["single_mil"]),
        ("SAPNet", miou["sapnet"]),
        ("oracle (best in bag)", miou["oracle"]),
    ]
    choices = table(("mask chosen for each training point", "mIoU"), [(name, f"{value:.3f}") for name, value in rows])
    models = table(
        ("SOLOv2 on unseen scenes, trained on", "mask AP"),
        [("SAPNet's pseudo labels", f"{ap['pseudo']:.3f}"), ("true masks", f"{ap['true']:.3f}")],
    )
    return f"{choices}\n\n{models}\n"


def _fixed_choices(bags: Path, truth: Path) -> dict[str, float]:
    quality = inspect_bags(bags, truth=truth, quiet=True).result["quality"]
    return {rule: quality[rule]["miou"] for rule in (*_FIXED, "oracle")}


def _select(
    bags: Path, images: Path, out: Path, method: str, truth: Path, seed: int, size: DemoSize, quiet: bool
) -> float:
    flags, assign = {"method": method, "seed": seed}, _iterations(size.select_iterations)
    select(bags, images, out, preset="demo", flags=flags, assign=assign, quiet=quiet)
    return float(evaluate(truth, labels=out / "pseudo_labels.json", predictions=None).result["miou"])


def _segment(
    labels: Path, images: Path, out: Path, test: Path, test_truth: Path, seed: int, size: DemoSize, quiet: bool
) -> dict[str, Any]:
    flags, assign = {"seed": seed, "engine": "builtin"}, _iterations(size.segment_iterations)
    train_seg(labels, images, out, preset="demo", flags=flags, assign=assign, quiet=quiet)
    predictions = out / "test_predictions.json"
    predict(out, test / "images", predictions, images_json=test_truth, quiet=quiet)
    return dict(evaluate(test_truth, labels=None, predictions=predictions).result)


def _iterations(count: int | None) -> list[str]:
    return [] if count is None else [f"train.max_iterations={count}"]


def _result(miou: Mapping[str, float], ap: Mapping[str, Any], seconds: Mapping[str, float]) -> dict[str, Any]:
    return {
        "miou": {name.replace("-", "_"): round(value, 4) for name, value in miou.items()},
        "ap": {name: round(figures["segm"]["AP"], 4) for name, figures in ap.items()},
        "box_ap": {name: round(figures["bbox"]["AP"], 4) for name, figures in ap.items()},
        "seconds": {**seconds, "total": round(sum(seconds.values()), 1)},
    }
