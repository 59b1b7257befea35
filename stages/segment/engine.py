"""Which engine hosts the training, what it is given and what it gives back.

Engines are `builtin.train` and `detectron2.run.train`; the latter is imported only once Detectron2 has been found.
"""

from dataclasses import dataclass
from pathlib import Path

from sapnet_pipe.data.coco.instances import InstanceDataset
from sapnet_pipe.data.errors import UserError
from sapnet_pipe.stages.segment.config import EngineName, SegmentConfig
from sapnet_pipe.stages.segment.detectron2.probe import detectron2_problem, detectron2_version
from sapnet_pipe.stages.segment.labels import LabelSet
from sapnet_pipe.stages.segment.solov2.model import SOLOv2
from sapnet_pipe.stages.segment.weights.model_file import ModelDescription
from sapnet_pipe.stages.training.run_files import CHECKPOINT, LAST_CHECKPOINT

INSTALL = (
    "Install it: pip install --no-build-isolation 'git+https://github.com/facebookresearch/detectron2"
    "@02b5c4e295e990042a714712c21dc79b731e8833', or use --engine builtin, which trains the same network"
)

SHORTER = "--preset light, or smaller train.max_iterations, image.short_sides and image.long_side"


@dataclass(frozen=True)
class EngineInputs:
    """What an engine trains.

    Attributes:
        config: Its `train.max_iterations` is resolved.
        model: With its first weights.
        truth: What to measure the model on, with its photographs in `val_images`; None: nothing is measured.
        out: The run folder.
    """

    config: SegmentConfig
    model: SOLOv2
    description: ModelDescription
    labels: LabelSet
    truth: InstanceDataset | None
    val_images: Path
    out: Path
    resume: bool
    quiet: bool


@dataclass(frozen=True)
class EngineResult:
    """What came of it; the model is in the run folder.

    Attributes:
        metrics: Means of the last record of metrics.jsonl.
        untrained: annotation id -> why the object did not train.
        ap: COCO's figures by ``segm`` and ``bbox``; None if nothing was measured.
    """

    iterations: int
    skipped_steps: int
    metrics: dict[str, float]
    untrained: dict[int, str]
    ap: dict[str, dict[str, float]] | None


def choose_engine(name: EngineName, begun: str | None = None) -> tuple[str, str]:
    """The engine behind an ``engine`` setting, and one line that says which it is and why.

    Args:
        begun: The engine of the run that is resumed, which ``auto`` stays with.
    Raises: UserError if Detectron2 is asked for and cannot be imported.
    """
    if name == "builtin" or (name == "auto" and begun == "builtin"):
        return "builtin", _builtin("engine builtin")
    problem = detectron2_problem()
    if problem is None:
        what = "engine detectron2" if name == "detectron2" else "engine auto takes detectron2"
        return "detectron2", f"{what}: Detectron2 {detectron2_version()}, its ResNet-FPN and trainer."
    if name == "auto" and begun is None:
        return "builtin", _builtin(f"engine auto takes builtin, since detectron2 cannot be imported ({problem})")
    raise UserError("settings", "engine", "detectron2", f"which cannot be imported here ({problem})", INSTALL)


def begun_engine(out: Path) -> str | None:
    """The engine whose checkpoint lies in a run folder, if any does."""
    if (out / CHECKPOINT).is_file():
        return "builtin"
    return "detectron2" if (out / LAST_CHECKPOINT).is_file() else None


def _builtin(what: str) -> str:
    return f"{what}: torchvision's ResNet-FPN, trained by Lightning Fabric."
