"""What the two engines learn: the same, within what rounding does to a training of some hundred steps."""

from tests.stages.segment.detectron2 import d2_host  # noqa: F401  # skips these tests where there is no Detectron2

# isort: split
from pathlib import Path

import pytest

from sapnet_pipe.data.scenes.dataset import DEMO_TEST, DEMO_TRAIN, write_scene_dataset
from tests.stages.segment.detectron2.compare_engines import compare

# A network and scenes that learn something within a minute: large objects, two levels, no time for the small ones.
SMALL = [
    "train.max_iterations=240",
    "train.batch_size=4",
    "train.lr=0.003",
    "train.warmup_iterations=30",
    "backbone.width=16",
    "image.short_sides=[160]",
    "image.long_side=160",
    "test.short_side=160",
    "test.long_side=160",
]
SEEDS = [0, 1, 2]


@pytest.mark.slow
def test_both_engines_learn_the_same_at_every_seed(tmp_path: Path) -> None:
    demo = tmp_path / "demo"
    write_scene_dataset(demo / "train", DEMO_TRAIN[:48], quiet=True)
    write_scene_dataset(demo / "test", DEMO_TEST[:24], quiet=True)
    found = compare(demo, tmp_path / "runs", seeds=SEEDS, assign=SMALL)["true"]
    for seed, ours, theirs in zip(SEEDS, found["builtin"], found["detectron2"], strict=True):
        assert ours > 0.03, (seed, "nothing was learnt")
        assert abs(ours - theirs) < 0.02, found
