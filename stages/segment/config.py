"""Every setting of stage three."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, field_validator, model_validator

from sapnet_pipe.stages.flags import FLAG, DepthText, Device, KeepCrowds, MaxFailureRate, Seed
from sapnet_pipe.stages.training.backbone_config import IMAGENET, STRIDES, BackboneConfig, FpnNormName
from sapnet_pipe.stages.training.config import TrainConfig

EngineName = Literal["auto", "detectron2", "builtin"]
HeadNorm = Literal["gn", "none"]
NmsKernel = Literal["gaussian", "linear"]


class SegmentBackboneConfig(BackboneConfig, frozen=True, extra="forbid"):
    """ResNet + FPN, with the pyramid that SOLOv2's published checkpoints have."""

    weights: str = Field(
        default=IMAGENET,
        min_length=1,
        description="imagenet (torchvision's, downloaded once), msra (Detectron2's, downloaded once, not verified), a "
        "file with torchvision's key names or Detectron2's .pkl, a run folder of select (its trunk, and its pyramid "
        "where it is of the same kind), or none (random).",
    )
    fpn_norm: FpnNormName = Field(default="none", description="Normalisation of the pyramid.")
    stride_in_1x1: bool = Field(
        default=False, description="A bottleneck's stride is on its first convolution (MSRA weights, AdelaiDet's R-50)."
    )


class HeadConfig(BaseModel, frozen=True, extra="forbid"):
    """SOLOv2's two heads; one entry of every list per level."""

    features: tuple[str, ...] = Field(
        default=("p2", "p3", "p4", "p5", "p6"), min_length=1, description="Pyramid map of each level."
    )
    strides: tuple[int, ...] = Field(
        default=(8, 8, 16, 32, 32), description="Stride that each map is resized to: 4, 8, 16, 32 or 64."
    )
    num_grids: tuple[int, ...] = Field(default=(40, 36, 24, 16, 12), description="Cells along a side of each level.")
    scale_ranges: tuple[tuple[float, float], ...] = Field(
        default=((1, 96), (48, 192), (96, 384), (192, 768), (384, 2048)),
        description="Object sizes, sqrt(box area) in pixels of the network's input, that each level takes.",
    )
    sigma: float = Field(default=0.2, gt=0, le=1, description="Share of an object's box whose cells predict it.")
    instance_channels: int = Field(default=512, gt=0, le=16_384, description="Width of the category and kernel towers.")
    instance_convs: int = Field(default=4, ge=1, le=100, description="Convolutions of each tower.")
    mask_channels: int = Field(default=128, gt=0, le=16_384, description="Width inside the mask head.")
    kernel_channels: int = Field(
        default=256, gt=0, le=16_384, description="Channels of the mask features and dynamic kernels."
    )
    norm: HeadNorm = Field(default="gn", description="Normalisation of the heads.")
    norm_groups: int = Field(default=32, gt=0, le=16_384, description="Groups of every GroupNorm in the heads.")
    prior_prob: float = Field(default=0.01, gt=0, lt=1, description="Score that every cell starts with.")

    @field_validator("features")
    @classmethod
    def _known_features(cls, features: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [name for name in features if name not in STRIDES]
        if unknown:
            raise ValueError(f"{unknown[0]} is not one of {', '.join(STRIDES)}")
        return features

    @field_validator("strides")
    @classmethod
    def _known_strides(cls, strides: tuple[int, ...]) -> tuple[int, ...]:
        unknown = [stride for stride in strides if stride not in STRIDES.values()]
        if unknown:
            raise ValueError(f"{unknown[0]} is not one of {', '.join(map(str, STRIDES.values()))}")
        return strides

    @field_validator("num_grids")
    @classmethod
    def _positive_grids(cls, grids: tuple[int, ...]) -> tuple[int, ...]:
        if not all(1 <= grid <= 1000 for grid in grids):
            raise ValueError("a grid has 1 to 1000 cells along a side")
        return grids

    @field_validator("scale_ranges")
    @classmethod
    def _rising_ranges(cls, ranges: tuple[tuple[float, float], ...]) -> tuple[tuple[float, float], ...]:
        for low, high in ranges:
            if not 0 <= low <= high <= 1e6:
                raise ValueError(f"({low:g}, {high:g}) is not a range of sizes")
        return ranges

    @model_validator(mode="after")
    def _fits_together(self) -> "HeadConfig":
        levels = {name: len(getattr(self, name)) for name in ("features", "strides", "num_grids", "scale_ranges")}
        if len(set(levels.values())) > 1:
            counts = ", ".join(f"{name} {count}" for name, count in levels.items())
            raise ValueError(f"the lists must have one entry per level, but have: {counts}")
        widths = {"kernel_channels": self.kernel_channels}
        if self.norm == "gn":
            widths |= {"instance_channels": self.instance_channels, "mask_channels": self.mask_channels}
        for name, width in widths.items():
            if width % self.norm_groups:
                raise ValueError(f"{name} = {width} must be a multiple of norm_groups = {self.norm_groups}")
        return self


class LossConfig(BaseModel, frozen=True, extra="forbid"):
    """SOLOv2's losses and SAPNet's multi-mask supervision."""

    dice_weight: float = Field(default=3.0, ge=0, le=1e6, description="Weight of the mask loss.")
    focal_weight: float = Field(default=1.0, ge=0, le=1e6, description="Weight of the category loss.")
    focal_alpha: float = Field(default=0.25, ge=-1, le=1, description="Weight of positives; -1 weighs none.")
    focal_gamma: float = Field(default=2.0, ge=0, le=100, description="How little easy cells count.")
    mps_weight: float = Field(
        default=0.25,
        ge=0,
        le=1e6,
        description="Weight gamma of the alternates of a pseudo mask (Eq. 11); 0 leaves them out.",
    )


class ImageConfig(BaseModel, frozen=True, extra="forbid"):
    """What the network sees while it trains."""

    short_sides: tuple[int, ...] = Field(
        default=(800,), min_length=1, description="Short side in pixels; of several one is drawn for each image."
    )
    long_side: int = Field(default=1333, ge=32, le=65_536, description="Limit of the long side.")
    flip: bool = Field(default=True, description="Mirror half of the images.")
    cache_mb: int = Field(
        default=256, ge=0, le=100_000_000, description="Memory for decoded images; per worker process."
    )
    depth: DepthText = Field(
        default="auto",
        description="What becomes 0 and 255 of photographs of more than 8 bits a channel, as --depth of generate-bags; "
        "auto: as the pseudo labels say, else as there.",
    )

    @field_validator("short_sides")
    @classmethod
    def _large_enough(cls, sides: tuple[int, ...]) -> tuple[int, ...]:
        wrong = next((side for side in sides if not 32 <= side <= 65_536), None)
        if wrong is not None:
            raise ValueError(f"{wrong} pixels are not from 32 to 65,536")
        return sides


class InferenceConfig(BaseModel, frozen=True, extra="forbid"):
    """Prediction: image size, thresholds and suppression."""

    short_side: int = Field(default=800, ge=32, le=65_536, description="Short side in pixels after resizing.")
    long_side: int = Field(default=1333, ge=32, le=65_536, description="Limit of the long side.")
    batch_size: int = Field(default=1, gt=0, le=65_536, description="Images per forward pass.")
    score_threshold: float = Field(default=0.1, ge=0, le=1, description="Category score that a candidate needs.")
    update_threshold: float = Field(default=0.05, ge=0, le=1, description="Final score that an instance needs.")
    mask_threshold: float = Field(default=0.5, gt=0, lt=1, description="Probability over which a pixel is mask.")
    nms_pre: int = Field(default=500, gt=0, le=1_000_000, description="Candidates that enter the suppression.")
    max_per_image: int = Field(default=100, gt=0, le=1_000_000, description="Instances of one image.")
    nms_type: Literal["matrix", "mask"] = Field(default="matrix", description="Matrix NMS, or greedy mask NMS.")
    nms_kernel: NmsKernel = Field(default="gaussian", description="Decay of Matrix NMS.")
    nms_sigma: float = Field(default=2.0, gt=0, le=1e6, description="Sigma of the gaussian decay.")


class Detectron2Config(BaseModel, frozen=True, extra="allow"):
    """What concerns the detectron2 engine alone; names in capitals are Detectron2's own options.

    ``--set detectron2.SOLVER.BASE_LR=0.02`` and ``--set detectron2.INPUT.CROP.ENABLED=true`` reach its config.
    """

    processes: int = Field(default=1, ge=1, le=1024, description="Processes of `launch`: one per GPU, or on the CPU.")

    @model_validator(mode="after")
    def _options_in_capitals(self) -> "Detectron2Config":
        unknown = [name for name in self.options if not name.isupper()]
        if unknown:
            raise ValueError(f"{unknown[0]} is neither 'processes' nor an option of Detectron2, such as SOLVER.BASE_LR")
        return self

    @property
    def options(self) -> dict[str, Any]:
        """Detectron2's options, nested as in its config."""
        return dict(self.model_extra or {})


class SegmentConfig(BaseModel, frozen=True, extra="forbid"):
    """Stage three: train SOLOv2 on masks."""

    engine: Annotated[EngineName, FLAG] = Field(
        default="auto", description="What hosts the training: detectron2, builtin, or auto."
    )
    device: Device = "auto"
    seed: Seed = Field(default=0, description="Seed of the weights, the order of images and every random draw.")
    max_failure_rate: MaxFailureRate = 0.0
    keep_crowds: KeepCrowds = False
    min_score: Annotated[float, FLAG] = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Labels whose confidence is lower do not train; their objects are background.",
    )
    init: str = Field(
        default="",
        description="SOLOv2 checkpoint to start from: a model_final.pth of ours, or AdelaiDet's (whose R-50 and R-101 "
        "want backbone.stride_in_1x1=true).",
    )
    backbone: SegmentBackboneConfig = Field(default=SegmentBackboneConfig(), description="ResNet + FPN.")
    head: HeadConfig = Field(default=HeadConfig(), description="Heads and levels.")
    loss: LossConfig = Field(default=LossConfig(), description="Losses.")
    image: ImageConfig = Field(default=ImageConfig(), description="Training images.")
    train: TrainConfig = Field(default=TrainConfig(), description="Optimiser and schedule.")
    test: InferenceConfig = Field(default=InferenceConfig(), description="Prediction.")
    detectron2: Detectron2Config = Field(default=Detectron2Config(), description="For engine detectron2.")
