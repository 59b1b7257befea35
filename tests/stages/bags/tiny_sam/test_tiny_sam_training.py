"""The tiny SAM's training: what is asked of the tokens, and that a few steps run and save loadable weights."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from sapnet_pipe.data.scenes.scene import render_scene
from sapnet_pipe.stages.bags.tiny_sam.model import build_tiny_sam
from sapnet_pipe.stages.bags.tiny_sam.prompts import PromptDataset, draw_prompts, levels_at
from sapnet_pipe.stages.bags.tiny_sam.train import hard_iou, learning_rate, mask_loss, train


def test_levels_are_nested_and_smallest_first() -> None:
    scene = render_scene(3)
    for y, x in np.argwhere(scene.instance_map > 0)[::500]:
        levels = list(levels_at(scene, x, y).items())
        assert [name for name, _ in levels] == sorted(
            (name for name, _ in levels), key=["part", "instance", "group"].index
        )
        for (_, small), (_, large) in pairwise(levels):
            assert (small & ~large).sum() == 0
        assert levels[0][1][y, x]


def test_the_largest_level_is_owed_by_the_last_token() -> None:
    batch = draw_prompts(render_scene(3), 16, np.random.default_rng(0))
    assert batch.owed[:, 2].all()
    assert not (batch.owed[:, 0] & ~batch.owed[:, 1]).any()
    areas = batch.target.sum(axis=(2, 3))
    assert (areas[:, 1] <= areas[:, 2]).all()
    assert batch.owed[np.arange(16), batch.meant].all()


def test_prompts_are_a_function_of_their_index() -> None:
    first, again = PromptDataset(0, 4, 3)[2], PromptDataset(0, 4, 3)[2]
    assert np.array_equal(first.point_xy, again.point_xy)
    assert np.array_equal(first.target, again.target)


def test_mask_loss_is_zero_for_a_perfect_mask_and_iou_one() -> None:
    target = torch.zeros(1, 8, 8)
    target[0, 2:5, 2:5] = 1
    logits = (target - 0.5) * 200
    assert mask_loss(logits, target).item() == pytest.approx(0, abs=1e-6)
    assert hard_iou(logits, target).item() == 1
    assert hard_iou(-torch.ones(1, 8, 8), torch.zeros(1, 8, 8)).item() == 0


def test_learning_rate_rises_then_falls() -> None:
    rates = [learning_rate(step, 1000, 1.0) for step in range(1000)]
    assert max(rates) == pytest.approx(1.0)
    assert rates[0] <= 0.01
    assert rates[-1] < 0.02


def test_two_steps_train_and_save_weights_that_fit(tmp_path: Path) -> None:
    train(2, tmp_path / "tiny.pt", workers=0, quiet=True)
    state = torch.load(tmp_path / "tiny.pt", weights_only=True)
    assert {value.dtype for value in state.values()} == {torch.float16}
    build_tiny_sam().load_state_dict({name: value.float() for name, value in state.items()})
