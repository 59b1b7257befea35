"""Skips the importing test module where there is no Detectron2; small helpers for the others."""

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip(
    "detectron2.engine", reason="no Detectron2 here: make test-detectron2 DETECTRON2=/path/to/its/source runs these"
)

import torch

from sapnet_pipe.stages.segment.detectron2.registration import register
from sapnet_pipe.stages.segment.run import SegmentSummary, run
from tests.stages.segment.segment_scenes import tiny_config

register()


def train(folder: Path, labels: Path, name: str, **settings: Any) -> SegmentSummary:
    """Train the tiny network by Detectron2 (or ``engine``) into ``folder / name``."""
    options = {key: settings.pop(key) for key in ("val_labels", "val_images", "resume", "quiet") if key in settings}
    out = folder / name
    out.mkdir(exist_ok=True)
    config = tiny_config(**{"engine": "detectron2", **settings})
    return run(labels, labels.parent / "images", out, config, **{"quiet": True, **options})


def weights(out: Path) -> dict[str, torch.Tensor]:
    """The trained model's tensors."""
    content = torch.load(out / "model_final.pth", weights_only=True)
    return dict(content["model"])
