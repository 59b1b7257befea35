"""Named settings of stage three; what a preset leaves out has its default."""

from collections.abc import Mapping
from typing import Any

# SAPNet trains selector and segmenter together, 0.015 at batch 32 over 12 epochs; the 1x schedule is that one.
_R50_1X: Mapping[str, Any] = {
    "backbone": {"name": "resnet50", "weights": "imagenet"},
    "image": {"short_sides": [800], "long_side": 1333},
    "train": {"epochs": 12, "batch_size": 16, "lr": 0.015 * 16 / 32, "workers": 4},
}

# AdelaiDet's 3x: 270,000 iterations of 16 images of COCO; no alternates in this schedule (supplement, section 8).
_R101_3X: Mapping[str, Any] = {
    "backbone": {"name": "resnet101", "weights": "imagenet"},
    "loss": {"mps_weight": 0.0},
    "image": {"short_sides": [640, 672, 704, 736, 768, 800], "long_side": 1333},
    "train": {
        "epochs": 36,
        "batch_size": 16,
        "lr": 0.01,
        "milestones": [210 / 270, 250 / 270],
        "warmup_iterations": 1000,
        "warmup_factor": 0.01,
        "workers": 4,
    },
}

# A few hundred photographs on one small GPU: long enough in steps, and mostly the pretrained backbone's work.
_SMALL: Mapping[str, Any] = {
    "image": {"short_sides": [480, 512, 544, 576, 608, 640], "long_side": 1066},
    "train": {"epochs": 48, "batch_size": 4, "lr": 0.0025, "warmup_iterations": 200, "checkpoint_every": 200},
    "test": {"short_side": 640, "long_side": 1066},
}

# Rendered scenes of 256 pixels, on a CPU: grids and size ranges shrink with the image. No alternates: in bags of five
# masks they are parts and groups, and cost a training this short 0.035 mask AP (0.240 against 0.276, one seed). The
# long warm-up lets the mask branch take off within 100 steps; at 2e-3 after 20 steps it needs 100 to 400, by luck.
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
        "lr": 1e-3,
        "optimizer": "adamw",
        "weight_decay": 0.05,
        "warmup_iterations": 100,
        "scheduler": "cosine",
        "clip_norm": 10.0,
    },
    "test": {"short_side": 256, "long_side": 256},
}

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "solov2-r50-1x": _R50_1X,
    "solov2-r101-3x": _R101_3X,
    "small": _SMALL,
    "demo": _DEMO,
}
