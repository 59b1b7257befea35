"""Trains a tiny segmenter, alone or under torchrun: train_scenes.py SCENES OUT."""

import sys
from pathlib import Path

from sapnet_pipe.stages.segment.run import run
from tests.stages.segment.segment_scenes import tiny_config

if __name__ == "__main__":
    scenes, out = Path(sys.argv[1]), Path(sys.argv[2])
    config = tiny_config(
        backbone={"norm": "gn"}, train={"max_iterations": 8, "batch_size": 4, "optimizer": "sgd", "lr": 0.01},
        image={"short_sides": [64, 96]},
    )  # fmt: skip
    labels = scenes / "labels.json"
    run(labels, scenes / "images", out, config, val_labels=labels, val_images=scenes / "images", quiet=True)
