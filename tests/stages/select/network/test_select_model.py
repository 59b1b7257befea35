"""The forward pass as a whole: padding, order, guidance, mirroring and gradients."""

import pytest
import torch

from sapnet_pipe.stages.select.batches.batch import Whole
from sapnet_pipe.stages.select.learn import StepLosses
from tests.stages.select.toy_model import batch, selector


def test_padding_never_changes_what_the_selector_says() -> None:
    model, plain = selector(), batch()
    junk = torch.tensor([[0.0, 0, 64, 64], [3, 3, 9, 9]]).expand(3, 2, 4)
    padded = plain._replace(
        boxes=torch.cat([plain.boxes, junk], dim=1),
        valid=torch.cat([plain.valid, torch.zeros(3, 2, dtype=torch.bool)], dim=1),
        filled=torch.arange(3 * 6).reshape(3, 6)[:, :4].flatten(),
    )
    with torch.no_grad():
        a, b = model(plain), model(padded)
    assert torch.allclose(a.class_scores, b.class_scores[:, :4], atol=1e-6)
    assert torch.equal(a.selected, b.selected)
    assert torch.allclose(a.box, b.box)
    assert torch.allclose(a.prm.class_scores[:, :4], b.prm.class_scores[:, :4], atol=1e-6)
    assert torch.allclose(a.prm.class_scores[:, 4:], b.prm.class_scores[:, 6:], atol=1e-6)
    assert torch.allclose(a.prm.box, b.prm.box, atol=1e-4)


def test_the_order_of_masks_never_changes_what_is_chosen() -> None:
    model, plain = selector(), batch()
    order = torch.tensor([2, 0, 3, 1])
    with torch.no_grad():
        a, b = model(plain), model(plain._replace(boxes=plain.boxes[:, order]))
    assert torch.equal(a.selected, order[b.selected])
    assert torch.allclose(a.prm.box, b.prm.box, atol=1e-4)


def test_a_bag_says_the_same_alone_and_in_company() -> None:
    model, plain = selector(), batch()
    alone = plain._replace(
        inputs=plain.inputs[1:], image_size=plain.image_size[1:], image_index=torch.tensor([0]),
        slot=torch.tensor([0]), most_bags=1, filled=torch.arange(4), whole=Whole(1, 1),
        **{name: getattr(plain, name)[2:] for name in (
            "class_index", "point_xy", "boxes", "valid", "neighbours_xy", "neighbours_valid", "rows")},
    )  # fmt: skip
    with torch.no_grad():
        a, b = model(plain), model(alone)
    assert torch.allclose(a.class_scores[2:], b.class_scores, atol=1e-5)
    assert torch.allclose(a.prm.class_scores[2:], b.prm.class_scores, atol=1e-5)


def test_guidance_lowers_the_score_of_a_mask_that_holds_another_point() -> None:
    plain = batch()
    group = torch.tensor([0.0, 0, 63, 63])
    plain.boxes[0, 1] = group
    with torch.no_grad():
        strong = selector(pdg__exponent=2.0)(plain)
        without = selector(pdg__enabled=False)(plain)
    ratio = strong.class_scores / without.class_scores
    assert ratio[0, 1] < 0.6
    assert ratio[2] == pytest.approx(torch.ones(4))  # the only point of its class


def test_mirroring_twice_is_where_one_began() -> None:
    model, plain = selector(), batch()
    boxes = plain.boxes.clone()
    boxes[..., 0], boxes[..., 2] = 64 - plain.boxes[..., 2], 64 - plain.boxes[..., 0]
    points = torch.stack([64 - plain.point_xy[:, 0], plain.point_xy[:, 1]], dim=1)
    neighbours = torch.stack([64 - plain.neighbours_xy[..., 0], plain.neighbours_xy[..., 1]], dim=-1)
    mirrored = plain._replace(inputs=plain.inputs.flip(-1), boxes=boxes, point_xy=points, neighbours_xy=neighbours)
    with torch.no_grad():
        a, b = model(plain, tta=True), model(mirrored, tta=True)
    assert torch.allclose(a.class_scores, b.class_scores, atol=1e-5)
    assert torch.allclose(a.prm.class_scores, b.prm.class_scores, atol=1e-5)


def test_losses_reach_every_part_and_the_weights_of_prm_do_not_train_psm() -> None:
    model = selector().train()
    values = StepLosses(model.config)(model, batch())
    assert values.keys() == {"loss_psm", "bag_accuracy", "loss_prm", "loss_negative"}
    values["loss_prm"].backward(retain_graph=True)
    assert model.psm.cls.weight.grad is None
    assert model.prm is not None
    assert model.prm.cls.weight.grad is not None
    (values["loss_psm"] + values["loss_negative"]).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())


def test_without_prm_there_is_only_psm() -> None:
    model = selector(prm__enabled=False).train()
    values = StepLosses(model.config)(model, batch())
    assert values.keys() == {"loss_psm", "bag_accuracy"}
    assert not any("prm" in name for name, _ in model.named_parameters())
