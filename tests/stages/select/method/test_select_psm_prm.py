import torch

from sapnet_pipe.stages.select.method.psm_prm import best_mask, instance_scores, of_class, prm_scores, psm_scores
from tests.stages.select.method.golden_cases import cases, close


def test_selection_scores_and_choices_equal_the_release() -> None:
    # The release selects in both stages with softmax classes; ours selects in PRM as it trains, with the sigmoid.
    for case in cases("selection"):
        valid = case["valid"][..., 0].bool()
        scores = psm_scores(case["cls_logits"], case["ins_logits"], valid)
        close(of_class(scores, case["labels"]), case["dynamic_weight"], 1e-6)
        close(of_class(instance_scores(case["ins_logits"], valid), case["labels"]), case["ins_score"], 1e-6)
        assert torch.equal(best_mask(of_class(scores, case["labels"]), valid), case["index"])


def test_padding_never_changes_a_bag_score() -> None:
    torch.manual_seed(0)
    cls_logits, ins_logits, s_dis = torch.randn(3, 4, 5), torch.randn(3, 4, 5), torch.rand(3, 4)
    valid = torch.ones(3, 4, dtype=torch.bool)
    wide_cls, wide_ins = (torch.cat([x, torch.randn(3, 2, 5) * 100], dim=1) for x in (cls_logits, ins_logits))
    more = torch.cat([valid, torch.zeros(3, 2, dtype=torch.bool)], dim=1)
    padded = psm_scores(wide_cls, wide_ins, more, torch.cat([s_dis, torch.rand(3, 2)], dim=1))
    close(padded[:, :4], psm_scores(cls_logits, ins_logits, valid, s_dis), 1e-6)
    assert padded[:, 4:].abs().sum() == 0
    close(prm_scores(wide_cls, wide_ins, more)[:, :4], prm_scores(cls_logits, ins_logits, valid), 1e-6)


def test_the_order_of_masks_in_a_bag_never_changes_the_scores() -> None:
    torch.manual_seed(0)
    cls_logits, ins_logits, valid = torch.randn(2, 5, 3), torch.randn(2, 5, 3), torch.rand(2, 5) > 0.3
    order = torch.randperm(5)
    shuffled = psm_scores(cls_logits[:, order], ins_logits[:, order], valid[:, order])
    close(shuffled, psm_scores(cls_logits, ins_logits, valid)[:, order], 1e-6)


def test_distance_guidance_multiplies_the_score() -> None:
    logits, valid = torch.zeros(1, 2, 4), torch.ones(1, 2, dtype=torch.bool)
    scores = psm_scores(logits, logits, valid, torch.tensor([[1.0, 0.5]]))
    assert torch.allclose(scores[0, :, 0], torch.tensor([0.125, 0.0625]))


def test_a_bag_of_one_mask_has_instance_score_one() -> None:
    scores = instance_scores(torch.randn(1, 3, 2), torch.tensor([[True, False, False]]))
    assert torch.equal(scores[0, 0], torch.ones(2))


def test_a_bag_without_a_valid_mask_scores_zero_and_has_a_finite_gradient() -> None:
    logits = torch.randn(1, 3, 2, requires_grad=True)
    scores = psm_scores(logits, logits, torch.zeros(1, 3, dtype=torch.bool))
    scores.sum().backward()
    assert scores.abs().sum() == 0
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_no_bags_give_no_scores() -> None:
    empty = torch.zeros(0, 6, 3)
    valid = torch.zeros(0, 6, dtype=torch.bool)
    assert of_class(psm_scores(empty, empty, valid), torch.zeros(0, dtype=torch.long)).shape == (0, 6)
