"""Every setting of stage two."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, model_validator

from sapnet_pipe.data.errors import SettingError, UserError
from sapnet_pipe.stages.flags import FLAG, Device, MaxFailureRate, Seed
from sapnet_pipe.stages.select.frozen.config import FrozenConfig
from sapnet_pipe.stages.training.backbone_config import BackboneConfig
from sapnet_pipe.stages.training.config import TrainConfig

FROZEN_TEST_BATCH = 32
TRAINED_METHODS = ("sapnet", "sapnet-plus", "single-mil")
Method = Literal["sapnet", "sapnet-plus", "single-mil", "sam-top1", "largest", "oracle"]
# What sapnet-plus has otherwise than the paper's sapnet, where it is not set.
PLUS: Mapping[str, Mapping[str, Any]] = {
    "completeness": {"enabled": True},
    "assignment": {"enabled": True},
    "pdg": {"exponent": 4.0},
}


class PdgConfig(BaseModel, frozen=True, extra="forbid"):
    """Point distance guidance: counters masks of whole groups."""

    enabled: bool = Field(default=True, description="Multiply the PSM scores by S_dis.")
    power: float = Field(
        default=1.0, gt=0, le=100, description="Exponent on each distance between points (the release: 0.5)."
    )
    exponent: float = Field(default=0.015, ge=0, le=1000, description="d of S_dis = sigmoid(1 / W) ** d.")


class BmsConfig(BaseModel, frozen=True, extra="forbid"):
    """Box mining: counters masks of parts."""

    enabled: bool = Field(default=True, description="Mine the selected boxes.")
    after: Literal["both", "psm", "prm"] = Field(default="both", description="Whose selection is mined.")
    top_k: int = Field(default=3, gt=0, le=1000, description="Highest-scored proposals that are looked at.")
    t_min1: float = Field(default=0.6, ge=0, le=1, description="IoU over which the best larger proposal is merged.")
    t_min2: float = Field(
        default=0.3, ge=0, le=1, description="IoU over which a larger, containing proposal is merged."
    )
    tolerance: float = Field(
        default=0.0, ge=0, le=65_536, description="Pixels by which a containing proposal may miss a side."
    )


class PrmConfig(BaseModel, frozen=True, extra="forbid"):
    """The refinement module: a second selection among the positives, trained against negatives."""

    enabled: bool = Field(default=True, description="Refine PSM's selection.")
    prior: float = Field(
        default=0.5,
        gt=0,
        lt=1,
        description="Class score that PRM starts from; at 0.5 the negatives of few classes delay a short training.",
    )
    beta: bool = Field(
        default=True, description="Multiply the loss of the negatives by beta, the mean PSM score of the bags."
    )
    positive_weight: float = Field(default=0.25, ge=0, le=1e6, description="Weight of the positive bags in the loss.")
    negative_weight: float = Field(default=0.75, ge=0, le=1e6, description="Weight of the negatives in the loss.")


class PositivesConfig(BaseModel, frozen=True, extra="forbid"):
    """Positive proposals for PRM."""

    enabled: bool = Field(default=True, description="Add twenty boxes scaled about the mined box to every bag.")


class NegativesConfig(BaseModel, frozen=True, extra="forbid"):
    """Negative proposals for PRM."""

    enabled: bool = Field(default=True, description="Train PRM against background boxes and parts.")
    random_boxes: int = Field(default=500, ge=0, le=1_000_000, description="Random boxes per image.")
    t_neg1: float = Field(
        default=0.3, ge=0, le=1, description="A random box with an IoU this high to a positive is dropped."
    )
    parts: int = Field(
        default=8, ge=0, le=10_000, description="Parts per object: the centred half-size box, then random ones."
    )
    t_neg2: float = Field(default=0.5, ge=0, le=1, description="A part with an IoU this high to its object is dropped.")
    part_min_side: float = Field(
        default=64.0, ge=0, le=65_536, description="Objects of over this side squared (pixels) have parts."
    )


class CompletenessConfig(BaseModel, frozen=True, extra="forbid"):
    """Beyond the paper: how complete a proposal is, q = sigmoid(linear(its feature)), learnt from the choices.

    S_com = (q / the bag's highest q) ** exponent multiplies the scores of PSM and PRM.
    """

    enabled: bool = Field(default=False, description="Multiply the scores by S_com; sapnet-plus does.")
    exponent: float = Field(default=1.0, ge=0, le=1000, description="e of S_com = (q / max q) ** e.")
    target: Literal["coverage", "iou"] = Field(
        default="coverage",
        description="What q learns of a box: its share of the bag's chosen box (parts lose), or the IoU of both "
        "(groups lose as well).",
    )
    weight: float = Field(default=0.25, ge=0, le=1e6, description="Weight of its loss.")


class HeadConfig(BaseModel, frozen=True, extra="forbid"):
    """RoI features."""

    roi_size: int = Field(default=7, gt=0, le=128, description="Bins per side of a RoI.")
    sampling_ratio: int = Field(default=2, gt=0, le=64, description="Samples per bin and side.")
    canonical_size: float = Field(
        default=224.0, gt=0, le=65_536, description="Side in pixels of the objects that level p4 serves."
    )
    channels: int = Field(default=1024, gt=0, le=65_536, description="Width of the two shared fully connected layers.")


class ImageConfig(BaseModel, frozen=True, extra="forbid"):
    """What the network sees."""

    short_side: int = Field(default=800, ge=32, le=65_536, description="Short side in pixels after resizing.")
    long_side: int = Field(default=1333, ge=32, le=65_536, description="Limit of the long side.")
    flip: bool = Field(default=True, description="Mirror half of the training images.")
    max_points: int = Field(
        default=100, gt=0, le=1_000_000, description="Points of one image that train in one step, a random subset."
    )
    cache_mb: int = Field(
        default=0, ge=0, le=100_000_000, description="Memory for decoded, resized images; per worker process."
    )


class AssignmentConfig(BaseModel, frozen=True, extra="forbid"):
    """Beyond the paper: two points of one class in one image may not take the same mask."""

    enabled: bool = Field(
        default=False,
        description="Of two such points the one with the smaller margin takes its next best mask that is free; "
        "sapnet-plus does so.",
    )
    iou: float = Field(
        default=0.9, gt=0, le=1, description="IoU of their boxes from which the masks of two bags are the same."
    )


class InferenceConfig(BaseModel, frozen=True, extra="forbid"):
    """The selection pass over all points."""

    batch_size: int = Field(default=2, gt=0, le=65_536, description="Images per forward pass.")
    flip: bool = Field(default=False, description="Average the scores with those of the mirrored image.")
    workers: int = Field(default=0, ge=0, le=1024, description="Processes that prepare images.")


class GuardConfig(BaseModel, frozen=True, extra="forbid"):
    """The seed guard: a training that learns nothing starts anew.

    It shows in the accuracy of the bags' classes; with one class, in how often objects score above negatives.
    """

    enabled: bool = Field(default=True, description="Watch the accuracy.")
    after: float = Field(
        default=0.25,
        gt=0,
        le=1e9,
        description="When to judge: below 1 a share of the length (from step 100 on), else an iteration.",
    )
    factor: float = Field(
        default=1.5, ge=1, le=1e6, description="Accuracy, as a multiple of chance, that shows learning."
    )
    max_restarts: int = Field(default=2, ge=0, le=100, description="Restarts from another seed before giving up.")
    fallback: bool = Field(
        default=True, description="Where nothing was learnt, take SAM's top-1 for the labels and mark them so."
    )


class SelectConfig(BaseModel, frozen=True, extra="forbid"):
    """Stage two: learn from the classes which mask of each bag is the object."""

    method: Annotated[Method, FLAG] = Field(
        default="sapnet",
        description="sapnet: the paper's; sapnet-plus: with completeness, assignment and a stronger PDG; single-mil: "
        "PSM alone. Without training: sam-top1: the mask that SAM scores highest; largest: the largest; oracle: the "
        "best by --truth.",
    )
    device: Device = "auto"
    seed: Seed = Field(default=0, description="Seed of the weights, the order of images and every random draw.")
    max_failure_rate: MaxFailureRate = 0.0
    psm_weight: float = Field(default=0.25, ge=0, le=1e6, description="Weight lambda of the PSM loss.")
    backbone: BackboneConfig = Field(default=BackboneConfig(), description="ResNet + FPN.")
    head: HeadConfig = Field(default=HeadConfig(), description="RoI features.")
    pdg: PdgConfig = Field(default=PdgConfig(), description="Point distance guidance.")
    bms: BmsConfig = Field(default=BmsConfig(), description="Box mining.")
    prm: PrmConfig = Field(default=PrmConfig(), description="Refinement module.")
    positives: PositivesConfig = Field(default=PositivesConfig(), description="Positive proposals.")
    negatives: NegativesConfig = Field(default=NegativesConfig(), description="Negative proposals.")
    completeness: CompletenessConfig = Field(default=CompletenessConfig(), description="Completeness of proposals.")
    assignment: AssignmentConfig = Field(default=AssignmentConfig(), description="One mask, one point.")
    image: ImageConfig = Field(default=ImageConfig(), description="Images.")
    train: TrainConfig = Field(default=TrainConfig(), description="Optimiser and schedule.")
    test: InferenceConfig = Field(default=InferenceConfig(), description="Selection pass.")
    guard: GuardConfig = Field(default=GuardConfig(), description="Seed guard.")
    frozen: FrozenConfig = Field(default=FrozenConfig(), description="Screening on frozen features.")

    @model_validator(mode="before")
    @classmethod
    def _fill_in_plus(cls, values: Any) -> Any:
        """What sapnet-plus has, below what is set."""
        if not isinstance(values, Mapping) or values.get("method") != "sapnet-plus":
            return values
        own = {name: {**PLUS[name], **_nested(values.get(name, {}))} for name in PLUS if _is_nested(values, name)}
        return {**values, **own}

    @model_validator(mode="after")
    def _additions_have_their_method(self) -> "SelectConfig":
        """The name of the paper's method never covers an addition to it."""
        added = next((name for name in ("completeness", "assignment") if getattr(self, name).enabled), None)
        if added is not None and self.method == "sapnet":
            hint = "Give --method sapnet-plus with it"
            raise SettingError(f"{added}.enabled", True, "which goes beyond the paper's sapnet", hint)
        return self

    @model_validator(mode="after")
    def _mining_has_its_module(self) -> "SelectConfig":
        """Mining after a module that is switched off would mine nothing, and never say so."""
        if self.bms.enabled and self.bms.after == "prm" and not self.prm.enabled:
            hint = "Choose psm or both, or switch box mining off (--set bms.enabled=false)"
            raise SettingError("bms.after", "prm", "but PRM is switched off (prm.enabled), so nothing is mined", hint)
        return self


def _is_nested(values: Mapping[str, Any], name: str) -> bool:
    return isinstance(values.get(name, {}), Mapping | BaseModel)


def _nested(value: Mapping[str, Any] | BaseModel) -> dict[str, Any]:
    """The values that were given."""
    return value.model_dump(exclude_unset=True) if isinstance(value, BaseModel) else dict(value)


def oracle_without_truth() -> UserError:
    """The method oracle has nothing to choose by."""
    hint = "Give the true masks with --truth, or choose another method"
    return UserError("settings", "method", "oracle", "which needs the truth", hint)


def for_frozen(config: SelectConfig) -> SelectConfig:
    """The settings with the schedule of `frozen`, if that is switched on; there is no mirroring then."""
    frozen = config.frozen
    if not frozen.enabled:
        return config
    train = {
        "max_iterations": frozen.max_iterations,
        "epochs": frozen.epochs,
        "batch_size": frozen.batch_size,
        "lr": frozen.lr,
        "optimizer": "adamw",
        "scheduler": "cosine",
        "workers": 0,
    }
    return config.model_copy(
        update={
            "train": config.train.model_copy(update=train),
            "image": config.image.model_copy(update={"flip": False}),
            "test": InferenceConfig(batch_size=FROZEN_TEST_BATCH),
        }
    )


def for_method(config: SelectConfig) -> SelectConfig:
    """The settings with the modules that the method has; single-mil is PSM alone."""
    if config.method != "single-mil":
        return config
    modules = ("pdg", "bms", "prm", "completeness", "assignment")
    return config.model_copy(
        update={name: getattr(config, name).model_copy(update={"enabled": False}) for name in modules}
    )
