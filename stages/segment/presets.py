"""Named settings of stage three; what a preset leaves out has its default.

Learning rates are given at a batch (`base_lr`, `base_batch`) and follow the batch that is set.
"""

from collections.abc import Mapping
from typing import Any

# SAPNet trains selector and segmenter together at batch 32; this is half of it. Section 8 of the supplement: 0.015 on
# COCO and 0.002 on VOC2012SBD, a tenth of it from epoch 8 and again from 10, 12 epochs, 1333 x 800 throughout; Eq. 11:
# gamma 0.25.
_BATCH = 16
_COCO_LR, _VOC_LR = 0.015 * _BATCH / 32, 0.002 * _BATCH / 32
_R50_1X: Mapping[str, Any] = {
    "backbone": {"name": "resnet50", "weights": "imagenet"},
    "loss": {"mps_weight": 0.25},
    "image": {"short_sides": [800], "long_side": 1333, "flip": True},
    "train": {
        "epochs": 12,
        "milestones": [8 / 12, 10 / 12],
        "gamma": 0.1,
        "batch_size": _BATCH,
        "base_lr": _COCO_LR,
        "base_batch": _BATCH,
        "momentum": 0.9,
        "weight_decay": 1e-4,
        "decay": "biases",
        "warmup_iterations": 500,
        "clip_norm": 35.0,
        "workers": 4,
    },
    "test": {"short_side": 800, "long_side": 1333},
}

_R50_VOC: Mapping[str, Any] = {**_R50_1X, "train": {**_R50_1X["train"], "base_lr": _VOC_LR}}

# Three times as long, falling at the same shares of it; short sides from 640 to 800, and no alternates.
_R50_3X: Mapping[str, Any] = {
    **_R50_1X,
    "loss": {"mps_weight": 0.0},
    "image": {"short_sides": [640, 672, 704, 736, 768, 800], "long_side": 1333, "flip": True},
    "train": {**_R50_1X["train"], "epochs": 36},
}
_R101_3X: Mapping[str, Any] = {**_R50_3X, "backbone": {"name": "resnet101", "weights": "imagenet"}}

# A few hundred photographs of one kind of thing on one small GPU: some thousand steps, and mostly the pretrained
# backbone's work. SOLOv2's own rate (0.01 at 16): with one class the category loss is small and the masks set the pace.
_SMALL: Mapping[str, Any] = {
    "image": {"short_sides": [480, 512, 544, 576, 608, 640], "long_side": 1066},
    "train": {
        "epochs": 48,
        "batch_size": 4,
        "base_lr": 0.01,
        "base_batch": 16,
        "warmup_iterations": 200,
        "checkpoint_every": 200,
    },
    "test": {"short_side": 640, "long_side": 1066},
}

# The same on a CPU: a smaller backbone and half as wide heads.
_LIGHT: Mapping[str, Any] = {
    "backbone": {"name": "resnet18", "fpn_channels": 128},
    "head": {"instance_channels": 256, "instance_convs": 2, "kernel_channels": 128},
    "image": {"short_sides": [320, 352, 384], "long_side": 640},
    "train": {**_SMALL["train"], "optimizer": "adamw", "base_lr": 3e-4, "base_batch": 4, "weight_decay": 0.05,
              "scheduler": "cosine", "warmup_iterations": 50},
    "test": {"short_side": 384, "long_side": 640},
}  # fmt: skip

# Rendered scenes of 256 pixels, on a CPU: grids and size ranges shrink with the image. No alternates: over three seeds
# they changed the mask AP by -0.004 ± 0.004 (docs/ablations.md). The long warm-up lets the mask branch take off within
# 100 steps; at 2e-3 after 20 steps it needs 100 to 400, by luck.
_DEMO: Mapping[str, Any] = {
    "backbone": {"name": "resnet10", "width": 32, "weights": "none", "norm": "gn", "fpn_channels": 64},
    "head": {
        "num_grids": [20, 16, 12, 8, 6],
        "scale_ranges": [[1, 24], [16, 48], [32, 96], [64, 192], [128, 512]],
        "instance_channels": 64,
        "instance_convs": 2,
        "mask_channels": 32,
        "kernel_channels": 32,
        "norm_groups": 8,
    },
    "loss": {"mps_weight": 0.0},
    "image": {"short_sides": [256], "long_side": 256},
    "train": {
        "max_iterations": 600,
        "batch_size": 4,
        "base_lr": 1e-3,
        "base_batch": 4,
        "optimizer": "adamw",
        "weight_decay": 0.05,
        "warmup_iterations": 100,
        "scheduler": "cosine",
        "clip_norm": 10.0,
    },
    "test": {"short_side": 256, "long_side": 256},
}

ABOUT = (
    ("solov2-r50-1x", "the paper's, on COCO: ResNet-50, 12 epochs"),
    ("solov2-r50-voc", "the same with the paper's rate for VOC"),
    ("solov2-r50-3x", "ResNet-50, 36 epochs, several scales"),
    ("solov2-r101-3x", "ResNet-101, 36 epochs, several scales"),
    ("small", "few photographs, on one small GPU: ResNet-50"),
    ("light", "few photographs, on a CPU: ResNet-18"),
    ("demo", "rendered scenes of 256 pixels, on a CPU"),
)
PRESETS: Mapping[str, Mapping[str, Any]] = {
    "solov2-r50-1x": _R50_1X,
    "solov2-r50-voc": _R50_VOC,
    "solov2-r50-3x": _R50_3X,
    "solov2-r101-3x": _R101_3X,
    "small": _SMALL,
    "light": _LIGHT,
    "demo": _DEMO,
}
