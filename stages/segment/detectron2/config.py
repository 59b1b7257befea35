"""Our settings as a Detectron2 config, the user's own options on top, and the way back for what builds the network."""

import math
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode, get_cfg

from sapnet_pipe.data.errors import UserError
from sapnet_pipe.stages.segment.config import (
    HeadConfig,
    InferenceConfig,
    LossConfig,
    SegmentBackboneConfig,
    SegmentConfig,
)
from sapnet_pipe.stages.segment.pixel_format import OUR_PIXELS, PixelFormat
from sapnet_pipe.stages.segment.solov2.inference import Decoding
from sapnet_pipe.stages.training.backbone_config import NormName
from sapnet_pipe.stages.training.config import TrainConfig

META_ARCHITECTURE = "HostedSOLOv2"
NARROW_BACKBONE = "build_narrow_resnet_fpn_backbone"
STANDARD_BACKBONE = "build_resnet_fpn_backbone"
FULL_MODEL = "full_model"
MILESTONES, COSINE = "WarmupMultiStepLR", "WarmupThenCosineLR"
_SEEDS = 2**32 - 1024  # Detectron2 seeds NumPy with this and the rank added, in 32 bits
_NORMS: dict[NormName, str] = {"frozen_bn": "FrozenBN", "bn": "BN", "gn": "GN"}
_DEPTHS = {"resnet10": 10, "resnet18": 18, "resnet34": 34, "resnet50": 50, "resnet101": 101}
_AMP = {"bf16-mixed": "bfloat16", "16-mixed": "float16", "32-true": "float16"}
# What must agree with model.json, or with the rule that data and draws follow from (seed, iteration).
_DECIDED = {
    "MODEL.DEVICE": "device",
    "MODEL.WEIGHTS": "init, or backbone.weights",
    "MODEL.BACKBONE": "backbone.*",
    "MODEL.RESNETS": "backbone.*",
    "MODEL.FPN": "backbone.fpn_channels and backbone.fpn_norm",
    "MODEL.SOLOV2.LOSS": "loss.*",
    "MODEL.SOLOV2.SCORE_THR": "test.score_threshold",
    "MODEL.SOLOV2": "head.* and test.*",
    "MODEL": "backbone.*, head.* and loss.*",
    "INPUT.FORMAT": "backbone.weights, which knows its pixels",
    "INPUT.MASK_FORMAT": "no other: the masks are bitmasks",
    "INPUT.MIN_SIZE_TEST": "test.short_side",
    "INPUT.MAX_SIZE_TEST": "test.long_side",
    "DATASETS": "--labels and --val-labels",
    "DATALOADER.SAMPLER_TRAIN": "no other: the sampler is the one that a resumed run can go on with",
    "DATALOADER.ASPECT_RATIO_GROUPING": "no other: groups depend on where a run began",
    "TEST.PRECISE_BN": "backbone.norm=gn, which needs no statistics",
    "TEST.AUG": "no other: predictions are made at one size",
    "SOLVER.REFERENCE_WORLD_SIZE": "train.batch_size and train.lr",
    "OUTPUT_DIR": "--out",
    "SEED": "--seed",
    "VERSION": "no other",
}


def add_solov2_config(cfg: CfgNode) -> None:
    """Add our keys to a Detectron2 config, in AdelaiDet's names where it has them.

    ``MODEL.SOLOV2``: heads, losses, decoding. ``SOLVER.OPTIMIZER``: SGD or ADAMW. ``SOLVER.AMP.PRECISION``: float16 or
    bfloat16. ``SOLVER.LR_SCHEDULER_NAME`` also takes WarmupThenCosineLR (the half cosine begins after the warm-up) and
    ``SOLVER.CLIP_GRADIENTS.CLIP_TYPE`` full_model (the norm over all gradients).
    """
    cfg.SOLVER.OPTIMIZER = "SGD"
    cfg.SOLVER.AMP.PRECISION = "float16"
    cfg.MODEL.SOLOV2 = CfgNode()
    _write_head(cfg.MODEL.SOLOV2, HeadConfig(), num_classes=80)
    cfg.MODEL.SOLOV2.LOSS = CfgNode()
    _write_loss(cfg.MODEL.SOLOV2.LOSS, LossConfig())
    _write_test(cfg.MODEL.SOLOV2, InferenceConfig())


def base_config() -> CfgNode:
    """Detectron2's defaults with our keys, and SOLOv2 on a ResNet-50 as the architecture."""
    cfg = get_cfg()
    add_solov2_config(cfg)
    cfg.MODEL.META_ARCHITECTURE = META_ARCHITECTURE
    cfg.MODEL.MASK_ON = True
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res2", "res3", "res4", "res5"]
    cfg.MODEL.FPN.IN_FEATURES = ["res2", "res3", "res4", "res5"]
    cfg.MODEL.BACKBONE.NAME = STANDARD_BACKBONE
    cfg.INPUT.MASK_FORMAT = "bitmask"
    cfg.INPUT.RANDOM_FLIP = "horizontal"
    # Both would make the order of the images depend on where a run began, or hide images without objects.
    cfg.DATALOADER.ASPECT_RATIO_GROUPING = False
    cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS = False
    return cfg


def config_of(
    config: SegmentConfig, backbone: SegmentBackboneConfig, *, num_classes: int, out: Path, device: str
) -> CfgNode:
    """The config of a training, with the user's Detectron2 options merged last.

    Args:
        config: Its `train.max_iterations` is resolved.
        backbone: Resolved.
        out: ``OUTPUT_DIR``.
    Raises: UserError for an option that Detectron2 does not know or that our settings decide.
    """
    cfg = base_config()
    cfg.OUTPUT_DIR, cfg.SEED, cfg.MODEL.DEVICE = str(out), config.seed % _SEEDS, device
    write_backbone(cfg, backbone)
    write_pixels(cfg, OUR_PIXELS)
    _write_head(cfg.MODEL.SOLOV2, config.head, num_classes)
    _write_loss(cfg.MODEL.SOLOV2.LOSS, config.loss)
    _write_test(cfg.MODEL.SOLOV2, config.test)
    _write_input(cfg, config)
    _write_solver(cfg.SOLVER, config.train)
    cfg.DATALOADER.NUM_WORKERS = config.train.workers
    merge_options(cfg, config.detectron2.options)
    return cfg


def write_backbone(cfg: CfgNode, backbone: SegmentBackboneConfig) -> None:
    """ResNet and pyramid. Detectron2's own builder takes all it can build as we do; GroupNorm and widths are ours."""
    depth, basic = _DEPTHS[backbone.name], backbone.name in ("resnet10", "resnet18", "resnet34")
    own_norm = backbone.norm == "gn" or (backbone.fpn_norm == "gn" and backbone.fpn_channels != 256)
    narrow = depth == 10 or backbone.width != 64 or own_norm
    cfg.MODEL.BACKBONE.NAME = NARROW_BACKBONE if narrow else STANDARD_BACKBONE
    cfg.MODEL.BACKBONE.FREEZE_AT = backbone.freeze_stages
    cfg.MODEL.RESNETS.DEPTH = depth
    cfg.MODEL.RESNETS.NORM = _NORMS[backbone.norm]  # type: ignore[index]  # resolved: not auto
    cfg.MODEL.RESNETS.STEM_OUT_CHANNELS = cfg.MODEL.RESNETS.WIDTH_PER_GROUP = backbone.width
    cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = backbone.width * (1 if basic else 4)
    cfg.MODEL.RESNETS.STRIDE_IN_1X1 = backbone.stride_in_1x1
    cfg.MODEL.FPN.OUT_CHANNELS = backbone.fpn_channels
    cfg.MODEL.FPN.NORM = "GN" if backbone.fpn_norm == "gn" else ""


def write_pixels(cfg: CfgNode, pixels: PixelFormat) -> None:
    """How the first convolution wants its pixels."""
    cfg.INPUT.FORMAT = pixels.format
    cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD = list(pixels.mean), list(pixels.std)


def head_of(cfg: CfgNode) -> HeadConfig:
    """The heads' settings back from ``MODEL.SOLOV2``; pydantic's ValidationError if they do not fit together."""
    node = cfg.MODEL.SOLOV2
    return HeadConfig(
        features=tuple(node.INSTANCE_IN_FEATURES),
        strides=tuple(node.FPN_INSTANCE_STRIDES),
        num_grids=tuple(node.NUM_GRIDS),
        scale_ranges=tuple((low, high) for low, high in node.FPN_SCALE_RANGES),
        sigma=node.SIGMA,
        instance_channels=node.INSTANCE_CHANNELS,
        instance_convs=node.NUM_INSTANCE_CONVS,
        mask_channels=node.MASK_CHANNELS,
        kernel_channels=node.NUM_KERNELS,
        norm="gn" if node.NORM == "GN" else node.NORM,
        norm_groups=node.NORM_GROUPS,
        prior_prob=node.PRIOR_PROB,
    )


def loss_of(cfg: CfgNode) -> LossConfig:
    """The losses' settings back from ``MODEL.SOLOV2.LOSS``."""
    return LossConfig(**{key.lower(): value for key, value in cfg.MODEL.SOLOV2.LOSS.items()})


def decoding_of(cfg: CfgNode) -> Decoding:
    """The thresholds back from ``MODEL.SOLOV2``."""
    node = cfg.MODEL.SOLOV2
    return Decoding(
        score_threshold=node.SCORE_THR,
        update_threshold=node.UPDATE_THR,
        mask_threshold=node.MASK_THR,
        nms_pre=node.NMS_PRE,
        max_per_image=node.MAX_PER_IMG,
        nms_type=node.NMS_TYPE,
        nms_kernel=node.NMS_KERNEL,
        nms_sigma=node.NMS_SIGMA,
    )


def _write_head(node: CfgNode, head: HeadConfig, num_classes: int) -> None:
    node.NUM_CLASSES = num_classes
    node.INSTANCE_IN_FEATURES = list(head.features)
    node.FPN_INSTANCE_STRIDES = list(head.strides)
    node.NUM_GRIDS = list(head.num_grids)
    node.FPN_SCALE_RANGES = tuple((low, high) for low, high in head.scale_ranges)
    node.SIGMA = head.sigma
    node.INSTANCE_CHANNELS = head.instance_channels
    node.NUM_INSTANCE_CONVS = head.instance_convs
    node.MASK_CHANNELS = head.mask_channels
    node.NUM_KERNELS = head.kernel_channels
    node.NORM = "GN" if head.norm == "gn" else "none"
    node.NORM_GROUPS = head.norm_groups
    node.PRIOR_PROB = head.prior_prob


def _write_loss(node: CfgNode, loss: LossConfig) -> None:
    for name, value in loss.model_dump().items():
        node[name.upper()] = value


def _write_test(node: CfgNode, test: InferenceConfig) -> None:
    node.SCORE_THR, node.UPDATE_THR, node.MASK_THR = test.score_threshold, test.update_threshold, test.mask_threshold
    node.NMS_PRE, node.MAX_PER_IMG = test.nms_pre, test.max_per_image
    node.NMS_TYPE, node.NMS_KERNEL, node.NMS_SIGMA = test.nms_type, test.nms_kernel, test.nms_sigma


def _write_input(cfg: CfgNode, config: SegmentConfig) -> None:
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MAX_SIZE_TRAIN = config.image.short_sides, config.image.long_side
    cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST = config.test.short_side, config.test.long_side
    cfg.INPUT.RANDOM_FLIP = "horizontal" if config.image.flip else "none"
    cfg.TEST.DETECTIONS_PER_IMAGE = config.test.max_per_image


def _write_solver(solver: CfgNode, train: TrainConfig) -> None:
    length = train.max_iterations
    solver.MAX_ITER, solver.IMS_PER_BATCH, solver.BASE_LR = length, train.batch_size, train.lr
    solver.OPTIMIZER, solver.MOMENTUM = train.optimizer.upper(), train.momentum
    solver.WEIGHT_DECAY = train.weight_decay
    solver.WEIGHT_DECAY_NORM = train.weight_decay if train.decay == "all" else 0.0
    solver.WEIGHT_DECAY_BIAS = 0.0 if train.decay == "weights" else train.weight_decay
    solver.WARMUP_ITERS, solver.WARMUP_FACTOR = train.warmup_iterations, train.warmup_factor
    solver.LR_SCHEDULER_NAME = COSINE if train.scheduler == "cosine" else MILESTONES
    solver.STEPS = tuple(sorted(math.ceil(m * length if m < 1 else m) for m in train.milestones))
    solver.GAMMA = train.gamma
    solver.CLIP_GRADIENTS.ENABLED = train.clip_norm > 0
    solver.CLIP_GRADIENTS.CLIP_TYPE, solver.CLIP_GRADIENTS.CLIP_VALUE = FULL_MODEL, train.clip_norm
    solver.CHECKPOINT_PERIOD = train.checkpoint_every
    solver.AMP.ENABLED, solver.AMP.PRECISION = train.precision != "32-true", _AMP[train.precision]


def merge_options(cfg: CfgNode, options: Mapping[str, Any]) -> None:
    """Lay the options over the config.

    Args:
        options: Nested, as ``{"SOLVER": {"AMP": {"ENABLED": True}}}``.
    Raises: UserError for an option that does not exist, has another type, or is decided by one of our settings.
    """
    _merge(cfg, options, "")


def _merge(node: CfgNode, options: Mapping[str, Any], path: str) -> None:
    for key, value in options.items():
        name = f"{path}{key}"
        if key not in node:
            raise _unknown(name, key, value, node)
        if isinstance(node[key], CfgNode):
            if not isinstance(value, Mapping):
                known = ", ".join(sorted(node[key]))
                raise _fault(name, value, "a group of options", f"Set one of its options: {known}")
            _merge(node[key], value, f"{name}.")
        else:
            _refuse_decided(name, value)
            node[key] = _typed(name, node[key], value)


def _typed(name: str, old: Any, value: Any) -> Any:
    if isinstance(value, (list, tuple)) and isinstance(old, (list, tuple)):
        return type(old)(value)
    if type(old) is float and type(value) is int:
        return float(value)
    if old is not None and type(value) is not type(old):
        raise _fault(name, value, f"which is not a {type(old).__name__}", f"Write it like its default, {old!r}")
    return value


def _refuse_decided(name: str, value: Any) -> None:
    parts = name.split(".")
    prefixes = [".".join(parts[:count]) for count in range(len(parts), 0, -1)]
    if decided := next((prefix for prefix in prefixes if prefix in _DECIDED), None):
        raise _fault(name, value, "which one of our own settings decides", f"Use {_DECIDED[decided]}")


def _unknown(name: str, key: str, value: Any, node: CfgNode) -> UserError:
    close = get_close_matches(key.upper(), list(node), n=3)
    known = ", ".join(close or sorted(node))
    return _fault(name, value, "which is not an option of Detectron2", f"Known here: {known}")


def _fault(name: str, value: Any, problem: str, hint: str) -> UserError:
    return UserError("settings", f"detectron2.{name}", value, problem, hint)
