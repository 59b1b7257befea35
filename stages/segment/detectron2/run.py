"""Training by Detectron2: one process here, or several through its `launch`."""

import contextlib
import logging
import multiprocessing
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.engine import defaults, launch
from detectron2.utils import comm
from torch.multiprocessing import ProcessExitedException, ProcessRaisedException

from sapnet_pipe.data.coco.instances import ImageRecord
from sapnet_pipe.data.errors import UserError
from sapnet_pipe.data.evaluation.coco_ap import coco_ap
from sapnet_pipe.data.files import read_json, write_bytes, write_json
from sapnet_pipe.stages.segment.config import SegmentConfig
from sapnet_pipe.stages.segment.detectron2.config import config_of
from sapnet_pipe.stages.segment.detectron2.registration import (
    forget,
    register,
    register_images,
    register_labels,
    write_truth,
)
from sapnet_pipe.stages.segment.detectron2.trainer import Trainer
from sapnet_pipe.stages.segment.engine import EngineInputs, EngineResult, begun_engine
from sapnet_pipe.stages.segment.labels import LabelSet
from sapnet_pipe.stages.segment.pixel_format import OUR_PIXELS
from sapnet_pipe.stages.segment.weights.model_file import ModelDescription, save_model
from sapnet_pipe.stages.training.cores import available_cores
from sapnet_pipe.stages.training.devices import pick_device
from sapnet_pipe.stages.training.interruption import Interruption, finishing_steps
from sapnet_pipe.stages.training.run_files import (
    DETECTRON2_CONFIG,
    DETECTRON2_FAULT,
    DETECTRON2_LOG,
    DETECTRON2_RESULT,
    INFERENCE_RESULTS,
    INFERENCE_TRUTH,
    INITIAL_MODEL,
    METRICS,
)

TRAIN, VALIDATION = "sapnet_pipe_train", "sapnet_pipe_validation"


@dataclass(frozen=True)
class Job:
    """One training, as every process is told of it.

    Attributes:
        config: Its `train.max_iterations` is resolved.
        description: With the pixels that Detectron2's model is fed with.
        out: The run folder, which is Detectron2's ``OUTPUT_DIR`` too.
        weights: What the training starts from, under Detectron2's names.
        val_records: Photographs to evaluate on, in the folder `val_images`; None: no evaluation.
    """

    config: SegmentConfig
    description: ModelDescription
    labels: LabelSet
    val_records: tuple[ImageRecord, ...] | None
    val_images: Path
    out: Path
    weights: Path
    resume: bool
    quiet: bool


def train(inputs: EngineInputs) -> EngineResult:
    """Train from the weights that the builtin engine would begin with, and measure the model if there is a truth.

    The run folder is Detectron2's ``OUTPUT_DIR``; model_final.pth and inference/ are left in it.

    Raises: UserError for settings, labels, photographs or checkpoints that cannot be used, and for a loss that is not
        finite.
    """
    job, truth = _job(inputs), inputs.truth
    if not (inputs.resume and begun_engine(job.out)):
        save_model(job.weights, inputs.model, job.description)
    if truth is not None:
        write_truth(job.out / INFERENCE_TRUTH, truth)
    found = _launch(job)
    untrained = {int(key): reason for key, reason in found["untrained"].items()}
    ap = None
    if truth is not None:
        predictions = job.out / INFERENCE_RESULTS
        ap = {"segm": coco_ap(truth, predictions, "segm"), "bbox": coco_ap(truth, predictions, "bbox")}
    return EngineResult(found["iterations"], 0, found["metrics"], untrained, ap)


def _job(inputs: EngineInputs) -> Job:
    return Job(
        config=inputs.config,
        description=inputs.description.model_copy(update={"pixels": OUR_PIXELS}),
        labels=inputs.labels,
        val_records=None if inputs.truth is None else tuple(inputs.truth.images.values()),
        val_images=inputs.val_images,
        out=inputs.out,
        weights=inputs.out / INITIAL_MODEL,
        resume=inputs.resume,
        quiet=inputs.quiet,
    )


def _launch(job: Job) -> dict[str, Any]:
    """Start the processes and wait for them; what the main one reports: iterations, metrics, untrained."""
    settings, processes = _config(job), job.config.detectron2.processes
    for name in (DETECTRON2_RESULT, DETECTRON2_FAULT):
        (job.out / name).unlink(missing_ok=True)
    write_bytes(job.out / DETECTRON2_CONFIG, settings.dump().encode())
    try:
        with _environment(settings.MODEL.DEVICE), _passing_on_signals(processes):
            launch(_work, processes, dist_url="auto", args=(job,))
    except (ProcessRaisedException, ProcessExitedException) as error:
        if (job.out / DETECTRON2_FAULT).is_file():
            raise UserError(*read_json(job.out / DETECTRON2_FAULT)) from error
        raise
    finally:
        for child in multiprocessing.active_children() if processes > 1 else ():
            child.terminate()
        (job.out / DETECTRON2_FAULT).unlink(missing_ok=True)
    found: dict[str, Any] = read_json(job.out / DETECTRON2_RESULT)
    (job.out / DETECTRON2_RESULT).unlink()
    return found


def _config(job: Job) -> CfgNode:
    """The config of the training; UserError for devices, processes and precisions that do not go together."""
    config, processes = job.config, job.config.detectron2.processes
    device = pick_device(config.device)
    if processes > 1:
        if device.type == "cuda" and processes > torch.cuda.device_count():
            problem = f"but this machine shows {torch.cuda.device_count()} CUDA devices"
            raise UserError("settings", "detectron2.processes", processes, problem, "Lower it, or take --device cpu")
        device = torch.device(device.type)
    classes = len(job.labels.categories)
    settings = config_of(config, job.description.backbone, num_classes=classes, out=job.out, device=str(device))
    settings.MODEL.WEIGHTS = str(job.weights)
    settings.DATASETS.TRAIN, settings.DATASETS.TEST = (TRAIN,), (VALIDATION,) if job.val_records is not None else ()
    if settings.SOLVER.IMS_PER_BATCH % processes:
        hint = f"Set a multiple of {processes}"
        problem = f"which {processes} processes cannot share evenly"
        raise UserError("settings", "train.batch_size", settings.SOLVER.IMS_PER_BATCH, problem, hint)
    if settings.SOLVER.AMP.ENABLED and device.type != "cuda":
        option = config.train.precision == "32-true"
        field, value = (
            ("detectron2.SOLVER.AMP.ENABLED", True) if option else ("train.precision", config.train.precision)
        )
        hint = "Take --device cuda, train in 32-true, or take --engine builtin"
        raise UserError("settings", field, value, f"which Detectron2 does not do on {device.type}", hint)
    settings.freeze()
    return settings


def _work(job: Job) -> None:
    """What every process does."""
    processes = comm.get_world_size()
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, available_cores() // processes))
    if processes > 1:  # torch interrupts its children when their parent dies; a shell's "&" would have them ignore it
        signal.signal(signal.SIGINT, signal.default_int_handler)
    settings = _config(job)
    if processes > 1 and settings.MODEL.DEVICE == "cpu":
        plain = defaults.create_ddp_model  # names a GPU for each process, which there is none of
        defaults.create_ddp_model = lambda model, **options: plain(model, **{**options, "device_ids": None})
    try:
        with _logged(job.out):
            _train(job, settings)
    except UserError as error:
        if processes > 1:
            fault = [error.file, error.field, str(error.value), error.problem, error.hint]
            write_json(job.out / DETECTRON2_FAULT, fault)
        raise


def _train(job: Job, settings: CfgNode) -> None:
    register()
    register_labels(TRAIN, job.labels)
    if job.val_records is not None:
        truth = str(job.out / INFERENCE_TRUTH)
        register_images(
            VALIDATION, job.val_records, job.val_images, job.labels.categories, json_file=truth, depth=job.labels.depth
        )
    try:
        with finishing_steps(quiet=job.quiet or not comm.is_main_process()) as interruption:
            trainer = _trainer(job, settings, interruption)
            trainer.resume_or_load(job.resume)
            trainer.train()
    except FloatingPointError as error:
        hint = "Lower train.lr, lengthen train.warmup_iterations, or set train.precision to 32-true"
        raise UserError(job.out / METRICS, "loss", "NaN or infinite", str(error), hint) from error
    finally:
        forget(TRAIN)
        forget(VALIDATION)
    untrained = {key: reason for part in comm.gather(trainer.untrained) for key, reason in part.items()}
    if comm.is_main_process():
        result = {"iterations": trainer.max_iter, "metrics": trainer.records.last, "untrained": untrained}
        write_json(job.out / DETECTRON2_RESULT, result)


def _trainer(job: Job, settings: CfgNode, interruption: Interruption) -> Trainer:
    """The trainer; what Detectron2 says of an option only when it builds something of it becomes a UserError."""
    try:
        return Trainer(settings, job.description, job.config.train, interruption=interruption, quiet=job.quiet)
    except (AssertionError, AttributeError, LookupError, TypeError, ValueError) as error:
        if not job.config.detectron2.options:
            raise
        problem = f"of which Detectron2 refuses one ({type(error).__name__}: {error})"
        hint = "Correct the option, or leave it out"
        raise UserError("settings", "detectron2", job.config.detectron2.options, problem, hint) from error


@contextlib.contextmanager
def _passing_on_signals(processes: int) -> Iterator[None]:
    """Wait for children who finish their step; a single process does so itself.

    They are told by SIGTERM, which is no repetition of a Ctrl-C that they have had from the terminal.
    """
    if processes == 1:
        yield
        return

    def tell() -> None:
        for child in multiprocessing.active_children():
            child.terminate()

    with finishing_steps(quiet=True, tell=tell) as interruption:
        yield
        if interruption.asked is not None:
            raise KeyboardInterrupt


@contextlib.contextmanager
def _environment(device: str) -> Iterator[None]:
    """What the processes of `launch` are to find in their environment.

    It takes CUDA's communication wherever it sees a CUDA device, so processes on the CPU must see none. And they import
    Detectron2 before they import us and our filter of its warnings.
    """
    changes = {"PYTHONWARNINGS": "ignore::FutureWarning"}
    if device == "cpu":
        changes["CUDA_VISIBLE_DEVICES"] = ""
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _logged(out: Path) -> Iterator[None]:
    """Detectron2's log lines, and what pycocotools prints, go to log.txt (log.txt.rank1, ...) of the run folder."""
    rank = comm.get_rank()
    path = out / (DETECTRON2_LOG if rank == 0 else f"{DETECTRON2_LOG}.rank{rank}")
    loggers: list[Any] = [logging.getLogger(name) for name in ("detectron2", "fvcore")]
    before = [(logger.level, logger.propagate) for logger in loggers]
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("[%(asctime)s] %(name)s %(levelname)s: %(message)s"))
    for logger in loggers:
        logger.setLevel(logging.INFO)
        logger.propagate = False
        logger.addHandler(handler)
    try:
        with contextlib.redirect_stdout(handler.stream):
            yield
    finally:
        for logger, (level, propagate) in zip(loggers, before, strict=True):
            logger.removeHandler(handler)
            logger.setLevel(level)
            logger.propagate = propagate
        handler.close()
