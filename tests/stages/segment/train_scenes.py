"""Trains a tiny segmenter, alone or under torchrun: train_scenes.py SCENES OUT."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parents[2])]

from segment_scenes import tiny_config  # noqa: E402

from stages.segment.run import run  # noqa: E402

if __name__ == "__main__":
    scenes, out = Path(sys.argv[1]), Path(sys.argv[2])
    config = tiny_config(
        backbone={"norm": "gn"}, train={"max_iterations": 8, "batch_size": 4, "optimizer": "sgd", "lr": 0.01},
        image={"short_sides": [64, 96]},
    )  # fmt: skip
    labels = scenes / "labels.json"
    run(labels, scenes / "images", out, config, val_labels=labels, val_images=scenes / "images", quiet=True)
