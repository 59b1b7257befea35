"""Hand-worked numbers of the completeness score, and how it enters the model."""

import math

import pytest
import torch

from sapnet_pipe.stages.select.learn import StepLosses
from sapnet_pipe.stages.select.method.completeness import (
    completeness_loss,
    completeness_score,
    completeness_target,
    joint_factor,
)
from tests.stages.select.method.golden_cases import close
from tests.stages.select.toy_model import batch, selector


def logit(share: float) -> float:
    return math.log(share / (1 - share))


def test_a_box_covers_a_share_of_the_chosen_one() -> None:
    chosen = torch.tensor([[0.0, 0, 10, 10]])
    boxes = torch.tensor([[[0.0, 0, 5, 10], [0, 0, 10, 10], [-5, -5, 15, 15], [20, 20, 30, 30]]])
    assert completeness_target(boxes, chosen, "coverage").tolist() == [[0.5, 1.0, 1.0, 0.0]]
    assert completeness_target(boxes, chosen, "iou").tolist() == [[0.5, 1.0, 0.25, 0.0]]


def test_the_most_complete_mask_has_the_factor_one_and_padding_none() -> None:
    logits = torch.tensor([[logit(0.2), logit(0.8), logit(0.9)]])
    valid = torch.tensor([[True, True, False]])
    close(completeness_score(logits, valid, exponent=1.0), torch.tensor([[0.25, 1.0, 0.0]]), 1e-6)
    close(completeness_score(logits, valid, exponent=0.5), torch.tensor([[0.5, 1.0, 0.0]]), 1e-6)
    close(completeness_score(logits, valid, exponent=0.0), torch.tensor([[1.0, 1.0, 0.0]]), 1e-6)


def test_the_loss_is_a_mean_over_each_bag_weighted_by_bag() -> None:
    logits = torch.tensor([[logit(0.5), logit(0.5), 9.0], [logit(0.8), 9.0, 9.0]])
    wanted = torch.tensor([[1.0, 0.0, 0.3], [1.0, 0.3, 0.3]])
    valid = torch.tensor([[True, True, False], [True, False, False]])
    loss = completeness_loss(logits, wanted, valid, torch.tensor([1.0, 0.5]), 2)
    close(loss, torch.tensor((-math.log(0.5) - 0.5 * math.log(0.8)) / 2), 1e-6)
    nothing = torch.zeros(0, 3)
    assert completeness_loss(nothing, nothing, nothing.bool(), torch.zeros(0), 0) == 0


def test_factors_that_are_switched_off_are_left_out() -> None:
    half = torch.full((1, 2), 0.5)
    assert joint_factor(None, None) is None
    assert joint_factor(half, None) is half
    both = joint_factor(half, half)
    assert both is not None
    assert torch.equal(both, torch.full((1, 2), 0.25))


def test_scores_are_multiplied_by_completeness_and_only_its_loss_trains_it() -> None:
    plain, given = selector(pdg__enabled=False), batch()
    model = selector(method="sapnet-plus", pdg__enabled=False)
    assert model.completeness is not None
    model.load_state_dict(plain.state_dict(), strict=False)
    torch.nn.init.normal_(model.completeness.weight, std=2.0)
    with torch.no_grad():
        a, b = plain(given), model(given)
    factor = completeness_score(b.completeness, given.valid, exponent=1.0)
    assert factor.min() < 0.9
    assert torch.allclose(b.class_scores, a.class_scores * factor, atol=1e-6)
    values = StepLosses(model.config)(model.train(), given)
    others = values["loss_psm"] + values["loss_prm"] + values["loss_negative"]
    assert torch.autograd.grad(others, model.completeness.weight, allow_unused=True, retain_graph=True) == (None,)
    values["loss_completeness"].backward()
    assert model.completeness.weight.grad is not None
    assert model.completeness.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("target", ["coverage", "iou"])
def test_the_head_learns_to_tell_parts_from_wholes(target: str) -> None:
    torch.manual_seed(0)
    features = torch.randn(64, 3, 8)
    wanted = torch.tensor([0.2, 1.0, 1.0 if target == "coverage" else 0.4]).expand(64, 3)
    features[..., 0] = torch.tensor([-1.0, 1.0, 2.0])  # what tells a part, a whole and a group
    head = torch.nn.Linear(8, 1)
    optimizer = torch.optim.SGD(head.parameters(), lr=0.5)
    valid = torch.ones(64, 3, dtype=torch.bool)
    for _ in range(200):
        loss = completeness_loss(head(features).squeeze(-1), wanted, valid, torch.ones(64), 64)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    score = completeness_score(head(features).squeeze(-1), valid, exponent=1.0).mean(dim=0)
    assert score[0] < 0.6 * score[1]


def test_without_the_switch_there_is_no_head() -> None:
    assert not any("completeness" in name for name, _ in selector().named_parameters())
    assert "loss_completeness" not in StepLosses(selector().config)(selector().train(), batch())
