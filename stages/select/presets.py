"""Named settings of stage two, as nested values that a file, ``--set`` and flags can override."""

from collections.abc import Mapping
from typing import Any

# The supplement's learning rates, at the authors' batch; `TrainConfig` scales them to the batch that is set.
PAPER_BATCH, COCO_LR, VOC_LR = 32, 0.015, 0.002

_COCO_1X: dict[str, Any] = {
    "backbone": {"name": "resnet50", "fpn_channels": 256, "fpn_norm": "gn"},
    "head": {"channels": 1024, "roi_size": 7},
    "image": {"short_side": 800, "long_side": 1333, "flip": True},
    "train": {
        "epochs": 12,
        "min_iterations": 500,  # of 50 images 12 epochs are 150 steps, which teach nothing
        "batch_size": 4,
        "base_lr": COCO_LR,
        "base_batch": PAPER_BATCH,
        "optimizer": "sgd",
        "momentum": 0.9,
        "weight_decay": 1e-4,
        "warmup_iterations": 500,
        "scheduler": "step",
        "milestones": [8 / 12, 10 / 12],
        "clip_norm": 35,
        "workers": 4,
    },
    "test": {"workers": 4},
}

_VOC: dict[str, Any] = {
    **_COCO_1X,
    "train": {**_COCO_1X["train"], "base_lr": VOC_LR},
}

# A few hundred photographs on a CPU or a small GPU: the pretrained backbone does most of the work.
_SMALL: dict[str, Any] = {
    "backbone": {"name": "resnet18", "fpn_channels": 128, "fpn_norm": "gn"},
    "head": {"channels": 256, "sampling_ratio": 1},
    "image": {"short_side": 384, "long_side": 640, "cache_mb": 256},
    "negatives": {"random_boxes": 100, "part_min_side": 32},
    "prm": {"prior": 0.05},  # of some hundred steps the negatives would cost the first hundred
    "train": {
        "epochs": 12,
        "min_iterations": 300,
        "batch_size": 4,
        "base_lr": 3e-4,
        "base_batch": 4,
        "optimizer": "adamw",
        "weight_decay": 0.05,
        "scheduler": "cosine",
        "warmup_iterations": 50,
    },
    "test": {"batch_size": 4},
}

_DEMO: dict[str, Any] = {
    "device": "cpu",
    "backbone": {"name": "resnet10", "width": 32, "weights": "none", "fpn_channels": 64},
    "head": {"channels": 256, "sampling_ratio": 1},
    "image": {"short_side": 256, "long_side": 256, "cache_mb": 256},
    "negatives": {"random_boxes": 100, "part_min_side": 20},
    "prm": {"prior": 0.05},
    "train": {
        "max_iterations": 500,
        "batch_size": 4,
        "base_lr": 1e-3,
        "base_batch": 4,
        "optimizer": "adamw",
        "weight_decay": 0.05,
        "scheduler": "cosine",
        "warmup_iterations": 50,
        "checkpoint_every": 200,
        "log_every": 20,
    },
    "test": {"batch_size": 8},
}

ABOUT = (
    ("coco-1x", "the paper's, on COCO: ResNet-50, 12 epochs"),
    ("voc", "the same with the paper's rate for VOC"),
    ("small", "few photographs, on a CPU or a small GPU: ResNet-18"),
    ("demo", "rendered scenes of 256 pixels, on a CPU"),
)
PRESETS: Mapping[str, Mapping[str, Any]] = {"coco-1x": _COCO_1X, "voc": _VOC, "small": _SMALL, "demo": _DEMO}
