import math

import torch

from sapnet_pipe.stages.select.method.psm_prm import (
    generalised_focal,
    negative_loss,
    prm_loss,
    prm_scores,
    psm_loss,
    psm_scores,
)
from tests.stages.select.method.golden_cases import cases, close


def test_bag_losses_and_gradients_equal_the_release() -> None:
    for case in cases("losses"):
        valid, labels, weights = case["valid"][..., 0].bool(), case["labels"], case["label_weights"]
        cls_logits, ins_logits = case["cls_logits"].requires_grad_(), case["ins_logits"].requires_grad_()
        scores, loss_of = (psm_scores, psm_loss) if int(case["stage"]) == 0 else (prm_scores, prm_loss)
        loss = 0.25 * loss_of(scores(cls_logits, ins_logits, valid), labels, valid, weights)
        loss.backward()
        close(loss.detach(), case["loss_mil"], 1e-5)
        assert cls_logits.grad is not None
        assert ins_logits.grad is not None
        close(cls_logits.grad, case["grad_cls"], 1e-5)
        close(ins_logits.grad, case["grad_ins"], 1e-5)


def test_negative_loss_and_gradient_equal_the_release() -> None:
    for case in cases("losses"):
        if "neg_loss" not in case:
            continue
        logits = case["neg_cls_logits"].requires_grad_()
        loss = 0.75 * negative_loss(logits, case["neg_weight"], len(case["labels"]), case["label_weights"].mean())
        loss.backward()
        close(loss.detach(), case["neg_loss"], 1e-5)
        assert logits.grad is not None
        close(logits.grad, case["grad_neg_cls"], 1e-5)


def test_psm_loss_of_a_hand_worked_bag() -> None:
    # One mask, classes (0.5, 0.25, background 0.25): -(log 0.5 + 2 log 0.75).
    scores = torch.tensor([[[0.5, 0.25, 0.25]]])
    loss = psm_loss(scores, torch.tensor([0]), torch.ones(1, 1, dtype=torch.bool))
    close(loss, torch.tensor(0.6931472 + 2 * 0.2876821), 1e-6)


def test_prm_loss_weights_each_bag_and_averages_over_bags() -> None:
    scores = torch.tensor([[[0.8, 0.1]], [[0.8, 0.1]]])
    valid = torch.ones(2, 1, dtype=torch.bool)
    one = generalised_focal(scores[0, 0], torch.tensor([1.0, 0.0])).sum()
    loss = prm_loss(scores, torch.tensor([0, 0]), valid, torch.tensor([1.0, 0.5]))
    close(loss, one * 0.75, 1e-6)


def test_negative_loss_of_a_hand_worked_negative() -> None:
    # Scores 0.5 and 0.2 of two classes: 0.25 * log 2 + 0.04 * -log 0.8, times beta 0.1, over four bags.
    logits = torch.tensor([[0.0, math.log(0.25)]])
    loss = negative_loss(logits, torch.tensor([True]), 4, 0.1)
    close(loss, torch.tensor(0.1 * (0.25 * 0.6931472 + 0.04 * 0.2231436) / 4), 1e-5)


def test_beta_scales_the_gradient_of_the_negatives_and_gets_none() -> None:
    logits, beta = torch.randn(5, 3, requires_grad=True), torch.tensor(0.3)
    kept = torch.ones(5, dtype=torch.bool)
    (whole,) = torch.autograd.grad(negative_loss(logits, kept, 2), logits)
    (scaled,) = torch.autograd.grad(negative_loss(logits, kept, 2, beta), logits)
    close(scaled, 0.3 * whole, 1e-6)


def test_rejected_negatives_count_nothing() -> None:
    logits = torch.randn(6, 3)
    keep = torch.tensor([True, False, True, False, False, True])
    close(negative_loss(logits, keep, 2), negative_loss(logits[keep], keep[keep], 2), 1e-6)


def test_no_bags_and_no_negatives_cost_nothing() -> None:
    scores, valid = torch.zeros(0, 6, 3), torch.zeros(0, 6, dtype=torch.bool)
    labels = torch.zeros(0, dtype=torch.long)
    assert psm_loss(scores, labels, valid) == 0
    assert prm_loss(scores, labels, valid) == 0
    assert negative_loss(torch.zeros(0, 3), torch.zeros(0, dtype=torch.bool), 0) == 0


def test_a_score_that_is_not_a_number_gives_a_loss_that_is_none() -> None:
    scores = torch.full((2, 3, 4), 0.1)
    scores[1, 0, 2] = torch.nan
    loss = psm_loss(scores, torch.tensor([0, 2]), torch.ones(2, 3, dtype=torch.bool))
    assert loss.isnan()
