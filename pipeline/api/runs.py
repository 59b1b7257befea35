"""The stages in a Python program: files in, files out, as the commands of the same names have it.

Settings are given by name, nested ones as mappings: ``select(..., preset="demo", train={"max_iterations": 100})``. They
are those of the command line's ``--set`` (see docs/settings.md) and are checked by the same models.
"""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sapnet_pipe.data.bag_store.filesystem import parse_location
from sapnet_pipe.data.bag_store.store import BagStore
from sapnet_pipe.data.points.point_set import PointSet
from sapnet_pipe.data.points.reader import read_points as read_point_file
from sapnet_pipe.pipeline.command import do_work
from sapnet_pipe.pipeline.commands.evaluate import evaluate as evaluate_command
from sapnet_pipe.pipeline.commands.generate_bags import generate_bags as generate_bags_command
from sapnet_pipe.pipeline.commands.select import select as select_command
from sapnet_pipe.pipeline.commands.train_seg import train_seg as train_seg_command
from sapnet_pipe.pipeline.report import Report

Result = dict[str, Any]


def read_points(
    path: str | Path, images: str | Path | None = None, *, form: str | None = None, category: str | None = None
) -> PointSet:
    """Read one point per object, in any form that `sapnet-pipe generate-bags` takes (docs/points.md).

    Args:
        path: The file, or a folder of files.
        images: Folder of the photographs, which a table needs: it does not say how large they are.
        form: Name of the form, such as ``cvat``, if it is not to be told by the content.
        category: Of the points for which the file names none.
    Returns: the points in NumPy columns, by image and id; `xy` is (N, 2) float32 in pixels of the original image.
    Raises: UserError for a malformed file, and for a point outside its image.
    """
    return read_point_file(Path(path), None if images is None else Path(images), form=form, category=category)


def open_bags(path: str | Path) -> BagStore:
    """Open a finished bag store for reading.

    Args:
        path: Its folder, or a URL (``s3://...``).
    Returns: the store. ``iter_bags()`` goes through all bags in flat memory, ``read_table()`` gives every box, score
        and area as NumPy columns without the masks, ``read_masks(image_id)`` the masks of one image.
    Raises: UserError if it is unfinished, damaged, or no store.
    """
    return BagStore.open(parse_location(str(path)))


def generate_bags(
    points: str | Path, images: str | Path, out: str | Path, *, quiet: bool = False, **settings: Any
) -> Result:
    """Stage one: ask SAM for the masks of every point, and store them. An interrupted run goes on where it stood.

    Args:
        points: File of points, in any form that `read_points` takes.
        images: Folder of the photographs.
        out: Folder or URL of the store.
        quiet: Show no progress bar.
        settings: Such as ``sam="vit_b"``, ``recipe="multimask"``, ``fast=True``, ``device="cuda"``.
    Returns: counts and times, as ``sapnet-pipe generate-bags --json`` prints them. What needs attention is a warning.
    Raises: UserError for points, images, settings or a folder at fault.
    """
    inputs = {"points": str(points), "images": str(images), "out": str(out), "quiet": quiet}
    return _result(generate_bags_command, inputs, settings)


def select(
    bags: str | Path,
    images: str | Path,
    out: str | Path,
    *,
    preset: str = "coco-1x",
    truth: str | Path | None = None,
    explain: bool = False,
    resume: bool = False,
    quiet: bool = False,
    **settings: Any,
) -> Result:
    """Stage two: learn from the categories which mask of each bag is the object; writes ``out/pseudo_labels.json``.

    Args:
        bags: Bag store. images: Folder of the photographs. out: Run folder, new unless `resume`.
        preset: Named settings, such as ``coco-1x``, ``voc`` or ``demo``.
        truth: COCO instances with true masks, to measure the choice; it is never trained on.
        explain: Also write explain.parquet: the scores of every mask at every step.
        resume: Go on with an interrupted run in the same folder.
        quiet: Show no progress bar.
        settings: Such as ``method="sapnet"``, ``seed=1``, ``train={"max_iterations": 1000}``.
    Returns: as ``sapnet-pipe select --json`` prints it: ``pseudo_labels``, ``labels``, ``training``, ``quality``, ...
        What needs attention (the selector has learnt nothing, images without bags) is a warning.
    Raises: UserError for inputs or settings at fault.
    """
    inputs = {
        "bags": str(bags), "images": str(images), "out": str(out), "preset": preset, "truth": _path(truth),
        "explain": explain, "resume": resume, "quiet": quiet,
    }  # fmt: skip
    return _result(select_command, inputs, settings)


def train_segmenter(
    labels: str | Path,
    images: str | Path,
    out: str | Path,
    *,
    preset: str = "solov2-r50-1x",
    val_labels: str | Path | None = None,
    val_images: str | Path | None = None,
    resume: bool = False,
    quiet: bool = False,
    **settings: Any,
) -> Result:
    """Stage three: train SOLOv2 on masks; `load_model` then loads the run folder.

    Args:
        labels: COCO instances: the pseudo labels of `select`, or true masks. images: Folder of the photographs.
        out: Run folder, new unless `resume`.
        preset: Named settings, such as ``solov2-r50-1x``, ``small`` or ``demo``.
        val_labels, val_images: Masks and photographs to measure the model on.
        resume: Go on with an interrupted run in the same folder.
        quiet: Show no progress bar.
        settings: Such as ``engine="builtin"``, ``seed=1``, ``train={"max_iterations": 1000}``.
    Returns: as ``sapnet-pipe train-seg --json`` prints it: ``model``, ``loss``, ``ap``, ...
    Raises: UserError for inputs or settings at fault.
    """
    inputs = {
        "labels": str(labels), "images": str(images), "out": str(out), "preset": preset,
        "val_labels": _path(val_labels), "val_images": _path(val_images), "resume": resume, "quiet": quiet,
    }  # fmt: skip
    return _result(train_seg_command, inputs, settings)


def evaluate(truth: str | Path, *, labels: str | Path | None = None, predictions: str | Path | None = None) -> Result:
    """Measure pseudo labels, or predictions, against true masks.

    Args:
        truth: COCO instances with true masks.
        labels: Pseudo labels, which are compared object by object: ``miou``, ``share_50``, ``by_size``, ...
        predictions: COCO results: average precision of masks (``segm``) and boxes (``bbox``). Names of their images and
            categories are read from the ``.images.json`` beside them.
    Raises: UserError unless exactly one of `labels` and `predictions` is given, and for malformed files.
    """
    return _result(evaluate_command, {"truth": str(truth), "labels": _path(labels), "predictions": _path(predictions)})


def _result(work: Callable[..., Report], inputs: Result, settings: Result | None = None) -> Result:
    """Do a command's work; what it would print as a note becomes a warning of the caller's line."""
    report, _ = do_work(work, inputs, values=settings)
    for note in report.notes:
        warnings.warn(note, stacklevel=3)
    return dict(report.result)


def _path(path: str | Path | None) -> str | None:
    return None if path is None else str(path)
