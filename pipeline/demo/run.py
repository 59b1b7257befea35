"""The bundled job: rendered scenes through all three stages, a table of what each part is worth, and pictures."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import typer

from sapnet_pipe.data.files import read_json, write_bytes, write_json
from sapnet_pipe.data.folder_lock import held_folder
from sapnet_pipe.pipeline.commands.bags import InspectInputs, inspect_bags
from sapnet_pipe.pipeline.commands.evaluate import EvaluateInputs, evaluate
from sapnet_pipe.pipeline.commands.predict import PredictInputs, PredictSettings, predict
from sapnet_pipe.pipeline.commands.select import SelectInputs, select
from sapnet_pipe.pipeline.commands.train_seg import TrainSegInputs, train_seg
from sapnet_pipe.pipeline.demo.pictures import draw_test_pictures, draw_training_pictures
from sapnet_pipe.pipeline.demo.scenes import DemoData
from sapnet_pipe.pipeline.demo.settings import DemoSettings
from sapnet_pipe.pipeline.outputs import require_empty_folder
from sapnet_pipe.pipeline.report import Report, table
from sapnet_pipe.pipeline.settings import resolve_settings
from sapnet_pipe.pipeline.side_by_side import side_by_side
from sapnet_pipe.stages.segment.config import SegmentConfig
from sapnet_pipe.stages.segment.presets import PRESETS as SEGMENT_PRESETS
from sapnet_pipe.stages.select.config import SelectConfig
from sapnet_pipe.stages.select.presets import PRESETS as SELECT_PRESETS
from sapnet_pipe.stages.training.run_files import PICTURED_IMAGES, PSEUDO_LABELS, TEST_PREDICTIONS, TRAIN_PREDICTIONS

_Result = TypeVar("_Result")
_FIXED = ("sam-top1", "largest", "token-1", "token-2", "token-3")
_CHOICES = {
    "sam_top1": "SAM top-1 (SAM's own score)",
    "largest": "always the largest mask",
    "token_1": "always token 1",
    "token_2": "always token 2",
    "token_3": "always token 3",
    "single_mil": "single MIL",
    "sapnet": "SAPNet",
    "sapnet_plus": "sapnet-plus (ours)",
    "oracle": "oracle (best in bag)",
}
_MODELS = {"pseudo": "SAPNet's pseudo labels", "true": "true masks"}


@dataclass
class _Clock:
    """Seconds by step, in the order of the steps, and of the jobs within them."""

    quiet: bool
    seconds: dict[str, float] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)

    @contextmanager
    def step(self, name: str, title: str) -> Iterator[None]:
        if not self.quiet:
            typer.echo(f"== {title}")
        started = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - started, 1)

    def at_once(self, jobs: Mapping[str, Callable[[], _Result]], device: str) -> dict[str, _Result]:
        """Results of jobs that need not wait for each other, by name."""
        timed = side_by_side([partial(_timed, job) for job in jobs.values()], device=device)
        self.seconds |= {name: seconds for name, (_, seconds) in zip(jobs, timed, strict=True)}
        return {name: result for name, (result, _) in zip(jobs, timed, strict=True)}

    def total(self) -> float:
        return round(time.monotonic() - self.started, 1)


def _timed(job: Callable[[], _Result]) -> tuple[_Result, float]:
    started = time.monotonic()
    return job(), round(time.monotonic() - started, 1)


def run_demo(out: Path, settings: DemoSettings, *, quiet: bool = False) -> Report:
    """Run the demo in the new folder `out`.

    The selector and the segmenter see points and categories only; the true masks are used to measure. With the setting
    `full` single MIL, sapnet-plus and a second segmenter on the true masks are trained as well.
    """
    require_empty_folder(out)
    with held_folder(out):
        job, clock = _DemoJob(out, settings, quiet), _Clock(quiet)
        counts = f"{settings.train_scenes} training and {settings.test_scenes} test scenes"
        with clock.step("scenes", f"{counts}, one point per object"):
            job.render()
        with clock.step("bags", "stage one: bags of masks from the tiny SAM"):
            miou = job.make_bags()
        for method in ("single-mil", "sapnet", "sapnet-plus") if settings.full else ("sapnet",):
            with clock.step(method.replace("-", "_"), f"stage two: {method} learns which mask is the object"):
                miou[method] = job.select(method)
        masks = ("pseudo", "true") if settings.full else ("pseudo",)
        both = "two SOLOv2, side by side, on SAPNet's masks and on the true ones"
        what = both if settings.full else "SOLOv2 on the masks that SAPNet chose"
        with clock.step("solov2", f"stage three: {what}, from the selector's backbone"):
            ap = clock.at_once({f"solov2_{labels}": partial(job.segment, labels) for labels in masks}, settings.device)
        with clock.step("pictures", "pictures"):
            job.draw()
        result = _result(miou, ap, {**clock.seconds, "total": clock.total()})
        write_bytes(out / "table.txt", demo_table(result).encode())
        return Report(
            demo_table(result), result, f"look at {out / 'pictures'}, then run the stages on your own photographs"
        )


def demo_table(result: Mapping[str, Any]) -> str:
    """The table of mask quality and average precision: the rows that were made, and how to get the others."""
    miou, ap = result["miou"], result["ap"]
    choices = table(
        ("mask chosen for each training point", "mIoU"),
        [(title, f"{miou[name]:.3f}") for name, title in _CHOICES.items() if name in miou],
    )
    models = table(
        ("SOLOv2 on unseen scenes, trained on", "mask AP"),
        [(title, f"{ap[name]:.3f}") for name, title in _MODELS.items() if name in ap],
    )
    whole = len(miou) == len(_CHOICES) and len(ap) == len(_MODELS)
    more = "" if whole else "\nSingle MIL, sapnet-plus and SOLOv2 on true masks are added by --full.\n"
    return f"{choices}\n\n{models}\n{more}"


@dataclass(frozen=True)
class _DemoJob(DemoData):
    """The steps of one demo; each reads and writes files in `out` only, so a step may run in another process."""

    settings: DemoSettings

    def make_bags(self) -> dict[str, float]:
        """The bag store; mIoU of the choices that need no training."""
        self.generate_bags()
        quality = inspect_bags(InspectInputs(bags=str(self.bags), truth=self.train_truth, quiet=True)).result["quality"]
        return {rule: quality[rule]["miou"] for rule in (*_FIXED, "oracle")}

    def select(self, method: str) -> float:
        """Train a selector; mIoU of what it chose."""
        run, iterations = self.out / method, _iterations(self.settings.select_iterations)
        flags = {"method": method, **self.common, **iterations}
        settings = resolve_settings(SelectConfig, preset=SELECT_PRESETS["demo"], flags=flags)
        select(SelectInputs(bags=str(self.bags), images=self.train_images, out=run, quiet=self.quiet), settings)
        found = evaluate(EvaluateInputs(truth=self.train_truth, labels=run / PSEUDO_LABELS))
        return float(found.result["miou"])

    def segment(self, name: str) -> dict[str, Any]:
        """Train a segmenter on the ``pseudo`` or the ``true`` masks; its AP on the test scenes.

        Either starts from the trunk and pyramid of SAPNet's selector, as the paper trains both over one backbone.
        """
        selector = self.out / "sapnet"
        labels = self.train_truth if name == "true" else selector / PSEUDO_LABELS
        run, iterations = self.out / f"solov2-{name}", _iterations(self.settings.segment_iterations)
        backbone = {"weights": str(selector), "fpn_norm": "gn"}
        flags = {"engine": "builtin", **self.common, **iterations, "backbone": backbone}
        settings = resolve_settings(SegmentConfig, preset=SEGMENT_PRESETS["demo"], flags=flags)
        train_seg(TrainSegInputs(labels=labels, images=self.train_images, out=run, quiet=self.quiet), settings)
        predictions = run / TEST_PREDICTIONS
        self._predict(run, self.test_images, predictions, self.test_truth)
        return dict(evaluate(EvaluateInputs(truth=self.test_truth, predictions=predictions)).result)

    def draw(self) -> None:
        """Strips of the first scenes of either set."""
        run, count = self.out / "solov2-pseudo", self.settings.pictures
        if not count:
            return
        truth = read_json(self.train_truth)
        drawn = run / PICTURED_IMAGES
        write_json(drawn, {**truth, "images": truth["images"][:count], "annotations": []})
        predictions = run / TRAIN_PREDICTIONS
        self._predict(run, self.train_images, predictions, drawn)
        draw_training_pictures(self.out, predictions, count)
        draw_test_pictures(self.out, count)

    def _predict(self, run: Path, images: Path, predictions: Path, images_json: Path) -> None:
        inputs = PredictInputs(run=run, images=images, out=predictions, images_json=images_json, quiet=self.quiet)
        predict(inputs, PredictSettings(device=self.settings.device))


def _iterations(count: int | None) -> dict[str, Any]:
    return {} if count is None else {"train": {"max_iterations": count}}


def _result(miou: Mapping[str, float], ap: Mapping[str, Any], seconds: Mapping[str, float]) -> dict[str, Any]:
    """The JSON line: what was made (`rows`, in the table's order) and its figures; the others have no entry."""
    quality = {name.replace("-", "_"): round(value, 4) for name, value in miou.items()}
    models = {name.removeprefix("solov2_"): figures for name, figures in ap.items()}
    return {
        "rows": [*(name for name in _CHOICES if name in quality), *ap],
        "miou": quality,
        "ap": {name: round(figures["segm"]["AP"], 4) for name, figures in models.items()},
        "box_ap": {name: round(figures["bbox"]["AP"], 4) for name, figures in models.items()},
        "seconds": dict(seconds),
    }
