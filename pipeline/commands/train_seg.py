"""`sapnet-pipe train-seg`: stage three in a run folder."""

from pathlib import Path
from shlex import quote
from typing import Annotated

from pydantic import Field

from sapnet_pipe.data.errors import UserError
from sapnet_pipe.data.files import sha256_file
from sapnet_pipe.pipeline.inputs import Images, Inputs, OutFolder, Resume, ValImages, ValLabels
from sapnet_pipe.pipeline.outputs import require_folder
from sapnet_pipe.pipeline.report import Report
from sapnet_pipe.pipeline.run_folder import open_run
from sapnet_pipe.pipeline.settings import Presets
from sapnet_pipe.stages.segment.config import SegmentConfig
from sapnet_pipe.stages.segment.presets import ABOUT, PRESETS
from sapnet_pipe.stages.training.run_files import PSEUDO_LABELS


class TrainSegInputs(Inputs, frozen=True, extra="forbid"):
    """What `train-seg` takes."""

    labels: Path = Field(description="COCO instances: pseudo labels or true masks.")
    images: Images
    out: OutFolder
    val_labels: ValLabels = None
    val_images: ValImages = None
    preset: Annotated[str, Presets(PRESETS, ABOUT)] = Field(default="solov2-r50-1x", description="Named settings.")
    resume: Resume = False


def train_seg(inputs: TrainSegInputs, settings: SegmentConfig) -> Report:
    """Train SOLOv2; with validation labels, also its mask and box AP."""
    labels, images, out, resume = inputs.labels, inputs.images, inputs.out, inputs.resume
    val_labels, val_images = inputs.val_labels, inputs.val_images
    require_folder(images, "--images")
    if val_images is not None and val_labels is None:
        hint = "Give --val-labels too, or leave it out"
        raise UserError("--val-images", "path", str(val_images), "photographs without labels to measure on", hint)
    if val_images is not None:
        require_folder(val_images, "--val-images")
    if (labels / PSEUDO_LABELS).is_file():
        hint = f"Give {labels / PSEUDO_LABELS}"
        raise UserError("--labels", "path", str(labels), "a run folder of select, not a file of labels", hint)
    hashes = {"labels": sha256_file(labels)}
    if val_labels is not None:
        hashes["val_labels"] = sha256_file(val_labels)

    from sapnet_pipe.stages.segment.run import run  # torch, which a fault above need not wait for

    with open_run(
        out, command="train-seg", settings=settings, inputs=hashes, seed=settings.seed, resume=resume
    ) as folder:
        summary = run(
            labels, images, out, settings,
            val_labels=val_labels, val_images=val_images, resume=resume, quiet=inputs.quiet,
        ).to_dict()  # fmt: skip
        folder.finish(summary)
    following = f"sapnet-pipe predict --run {quote(str(out))} --images DIR --out predictions.json"
    return Report(f"Model written to {out}", summary, following, notes=folder.notes, silent=not folder.written)
