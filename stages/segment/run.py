"""Stage three: train SOLOv2 on pseudo labels (or true masks) and write a model that predicts."""

import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from sapnet_pipe.data.errors import UserError
from sapnet_pipe.data.pixel_depth import Depth
from sapnet_pipe.stages.segment import builtin
from sapnet_pipe.stages.segment.config import Detectron2Config, SegmentConfig
from sapnet_pipe.stages.segment.engine import EngineInputs, EngineResult, begun_engine, choose_engine
from sapnet_pipe.stages.segment.labels import LabelSet, read_labels, read_truth
from sapnet_pipe.stages.segment.network import build_solov2
from sapnet_pipe.stages.segment.solov2.model import SOLOv2
from sapnet_pipe.stages.segment.weights.model_file import (
    ModelDescription,
    load_initial_weights,
    read_description,
    write_description,
)
from sapnet_pipe.stages.training.config import TrainConfig, lr_line, resolve_length
from sapnet_pipe.stages.training.devices import limit_threads, pick_device, train_layout
from sapnet_pipe.stages.training.distributed import is_main_process, world_size
from sapnet_pipe.stages.training.run_files import MODEL, MODEL_DESCRIPTION

_FEW_STEPS = 100


@dataclass(frozen=True)
class SegmentSummary:
    """What a training of the segmenter did.

    Attributes:
        engine: What hosted it.
        images, images_without_objects, objects: Of the training labels.
        dropped: Reason -> number of annotations (or alternates) that did not train.
        loss: Means of the last record of metrics.jsonl.
        ap: COCO's figures by ``segm`` and ``bbox``; None without validation labels.
        notes: What the user should know, one line each.
        model: The trained model, for `predict`.
    """

    engine: str
    images: int
    images_without_objects: int
    objects: int
    dropped: dict[str, int]
    iterations: int
    skipped_steps: int
    seconds: float
    loss: dict[str, float]
    ap: dict[str, dict[str, float]] | None
    notes: list[str]
    model: str

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return asdict(self)


def run(
    labels: Path,
    images_dir: Path,
    out: Path,
    config: SegmentConfig,
    *,
    val_labels: Path | None = None,
    val_images: Path | None = None,
    resume: bool = False,
    quiet: bool = False,
) -> SegmentSummary:
    """Read the labels, build the network, train it, export it, and measure it if there are validation labels.

    Args:
        out: The run folder, which exists. Written: model.json (how the network is built), metrics.jsonl and
            model_final.pth; by engine builtin tensorboard and checkpoints/last.pt; by engine detectron2 what its
            OUTPUT_DIR holds (last_checkpoint, model_0000499.pth, metrics.json, events, config.yaml, log.txt, inference)
            and model_start.pth, the weights it began with.
        val_images: Folder of the validation images; `images_dir` if not given.
        resume: Go on from the last checkpoint; the end is the same as without the interruption.
    Raises: UserError for settings, labels or photographs that cannot be used.
    """
    began = time.perf_counter()
    notes = _Notes(quiet)
    engine, about_engine = _engine(config, begun_engine(out) if resume else None)
    limit_threads()
    device = pick_device(config.device)
    label_set = _labels(labels, images_dir, config, quiet)
    truth, remarks = read_truth(val_labels, label_set, keep_crowds=config.keep_crowds) if val_labels else (None, [])
    for line in (*about_engine, *label_set.notes, *remarks):
        notes.add(line)
    model, description = _network(out, config, label_set, resume, notes)
    model.to(memory_format=train_layout(device))
    inputs = EngineInputs(
        config=config.model_copy(update={"train": _length(config, label_set, notes)}),
        model=model,
        description=description,
        labels=label_set,
        truth=truth,
        val_images=val_images or images_dir,
        out=out,
        resume=resume,
        quiet=quiet,
    )
    result = _train_by_detectron2(inputs) if engine == "detectron2" else builtin.train(inputs, device)
    return SegmentSummary(
        engine=engine,
        **_counts(label_set),
        dropped={**label_set.dropped, **Counter(result.untrained.values())},
        iterations=result.iterations,
        skipped_steps=result.skipped_steps,
        seconds=round(time.perf_counter() - began, 3),
        loss=result.metrics,
        ap=result.ap,
        notes=notes.lines,
        model=str(out / MODEL),
    )


def _labels(path: Path, images_dir: Path, config: SegmentConfig, quiet: bool) -> LabelSet:
    return read_labels(
        path,
        images_dir,
        with_alternates=config.loss.mps_weight > 0,
        min_score=config.min_score,
        max_failure_rate=config.max_failure_rate,
        keep_crowds=config.keep_crowds,
        depth=Depth.parse(config.image.depth),
        quiet=quiet or not is_main_process(),
    )


def _length(config: SegmentConfig, labels: LabelSet, notes: "_Notes") -> TrainConfig:
    """The schedule with its steps; a note where the epochs of few photographs make few of them."""
    length, images = resolve_length(config.train, len(labels.images)), len(labels.images)
    if not config.train.max_iterations and length.max_iterations < _FEW_STEPS:
        steps = length.max_iterations
        notes.add(f"{steps} steps for {images} photographs teach little: --preset small and light take more epochs.")
    return length


def _engine(config: SegmentConfig, begun: str | None) -> tuple[str, list[str]]:
    """The engine, and what that means for the other settings; `begun` is that of the run to resume."""
    engine, line = choose_engine(config.engine, begun)
    notes = [line, lr_line(config.train)]
    if engine == "builtin" and config.detectron2 != Detectron2Config():
        notes.append("the settings under detectron2 do not concern engine builtin and change nothing.")
    if engine == "detectron2" and world_size() > 1:
        hint = "Start it without torchrun: Detectron2 launches its own processes (detectron2.processes)"
        raise UserError("settings", "engine", engine, "which does not run under torchrun", hint)
    return engine, notes


def _train_by_detectron2(inputs: EngineInputs) -> EngineResult:
    from sapnet_pipe.stages.segment.detectron2.run import train  # a plain import: its faults are ours

    return train(inputs)


def _counts(labels: LabelSet) -> dict[str, int]:
    return {
        "images": len(labels.images),
        "images_without_objects": sum(not image.counts for image in labels.images),
        "objects": sum(len(image.counts) for image in labels.images),
    }


class _Notes:
    """Lines for the summary, shown at once unless the user wants quiet."""

    def __init__(self, quiet: bool) -> None:
        self.quiet, self.lines = quiet, list[str]()

    def add(self, line: str) -> None:
        self.lines.append(line)
        if not self.quiet and is_main_process():
            tqdm.write(line, file=sys.stderr)


def _network(
    out: Path, config: SegmentConfig, labels: LabelSet, resume: bool, notes: _Notes
) -> tuple[SOLOv2, ModelDescription]:
    """The network as a training starts with it; a resumed one is filled by the training loop."""
    path = out / MODEL_DESCRIPTION
    torch.manual_seed(config.seed)
    if resume and begun_engine(out) and path.is_file():
        description = read_description(path)
        model = description.build()
    else:
        number = len(labels.categories)
        model, backbone = build_solov2(config.backbone, config.head, number, warn=notes.add, load=not config.init)
        description = ModelDescription(
            categories=labels.categories,
            backbone=backbone,
            head=config.head,
            test=config.test,
            depth=str(labels.depth),
        )
        if config.init:
            others = load_initial_weights(model, Path(config.init), stride_in_1x1=backbone.stride_in_1x1)
            notes.add(f"started from {config.init}" + (", but for the classes" if others else "") + ".")
        if is_main_process():
            write_description(path, description)
    return model, description
