"""Roughly how long the stages will take here, and how much disk the bags need.

Stage one: the arithmetic of SAM (counted with torch's FlopCounterMode) over the speed at which this machine multiplies
matrices (timed for a moment), times how much slower SAM runs than that: 2.3, measured with vit_b on a CPU, encoder and
decoder alike. Cutting out and encoding the masks of a point costs 0.05 s of CPU at 640 x 480 besides.
Stages two and three: the steps of a preset, times the seconds of one on two cores that multiplied at 105 GFLOP/s (of
solov2-r50-1x from those of `small`, by pixels and batch), over the speed of this machine. A training times its
own first steps.
Disk: 224 bytes a mask, the mean of real COCO masks at 0.27 megapixels, growing with the side of the image, and 40 bytes
of boxes and scores. Take all as right within a factor of two, on GPUs of three.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sapnet_pipe.stages.bags.config import RecipeName, SamName
from sapnet_pipe.stages.segment.presets import PRESETS as SEGMENT_PRESETS
from sapnet_pipe.stages.select.presets import PRESETS as SELECT_PRESETS
from sapnet_pipe.stages.training.config import TrainConfig, resolve_length

_ENCODER_GFLOP: dict[SamName, float] = {"tiny": 4.6, "vit_b": 972.0, "vit_l": 2986.0, "vit_h": 5961.0}
_POINT_GFLOP: dict[SamName, float] = {"tiny": 0.13, "vit_b": 3.6, "vit_l": 3.6, "vit_h": 3.6}
# Of a point: the point itself, and each of its three masks' boxes.
_PROMPTS: dict[RecipeName, int] = {"multimask": 1, "refined": 4, "centred": 4}
_MASKS: dict[RecipeName, int] = {"multimask": 3, "refined": 6, "centred": 6}  # at most
_SLOWER = 2.3
_HOST_SECONDS, _HOST_PIXELS = 0.05, 640 * 480
_MASK_BYTES, _MASK_PIXELS, _ROW_BYTES = 224, 266_000, 40
_STEP_GFLOPS = 105.0
_STEP_SECONDS: Mapping[tuple[str, str], float] = {
    ("select", "coco-1x"): 85.0,
    ("select", "small"): 5.5,
    ("train-seg", "solov2-r50-1x"): 204.0,
    ("train-seg", "small"): 25.0,
    ("train-seg", "light"): 10.0,
}


@dataclass(frozen=True)
class Estimate:
    """Of one run of generate-bags on this machine: seconds, bytes, and what they were estimated from."""

    sam: str
    recipe: str
    device: str
    gflops: float
    images: int
    points: int
    seconds: float
    bytes: float

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return asdict(self)


def estimate_bags(
    work: Sequence[tuple[tuple[int, int], int]], *, sam: SamName, recipe: RecipeName, device: str, gflops: float
) -> Estimate:
    """Estimate stage one.

    Args:
        work: ((height, width), number of points) of every image with a point.
        gflops: Float32 matrix products of the device, in GFLOP/s.
    """
    points = sum(number for _, number in work)
    flop = _ENCODER_GFLOP[sam] * len(work) + _POINT_GFLOP[sam] * _PROMPTS[recipe] * points
    pixels = sum(height * width * number for (height, width), number in work)
    host = _HOST_SECONDS * pixels / _HOST_PIXELS * _MASKS[recipe] / _MASKS["refined"]
    mask_bytes = sum(
        ((height * width / _MASK_PIXELS) ** 0.5 * _MASK_BYTES + _ROW_BYTES) * n for (height, width), n in work
    )
    return Estimate(
        sam, recipe, device, gflops, len(work), points, _SLOWER * flop / gflops + host, mask_bytes * _MASKS[recipe]
    )


@dataclass(frozen=True)
class TrainingEstimate:
    """Of one training on this machine: its steps, and seconds in all."""

    command: str
    preset: str
    steps: int
    seconds: float


def estimate_trainings(images: int, gflops: float) -> list[TrainingEstimate]:
    """Estimate stages two and three with the presets that one's own photographs may take.

    Args:
        images: Photographs with a point.
        gflops: Float32 matrix products of the device, in GFLOP/s.
    """
    found = []
    for (command, preset), seconds in _STEP_SECONDS.items():
        named = SELECT_PRESETS if command == "select" else SEGMENT_PRESETS
        steps = resolve_length(TrainConfig.model_validate(named[preset]["train"]), images).max_iterations
        found.append(TrainingEstimate(command, preset, steps, steps * seconds * _STEP_GFLOPS / gflops))
    return found
