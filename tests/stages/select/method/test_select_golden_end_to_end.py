"""Batches of several images through the release's whole forward pass: the parts that paper and release share.

Not compared: the release's BMS, its PSM loss (PDG scales the logits there, the score here) and its softmax selection in
PRM.
"""

import torch

from sapnet_pipe.stages.select.method.mps import mask_of_box
from sapnet_pipe.stages.select.method.pnpg import background, pad_by_image, part_boxes, random_boxes
from sapnet_pipe.stages.select.method.psm_prm import (
    best_mask,
    negative_loss,
    of_class,
    prm_loss,
    prm_scores,
    psm_scores,
)
from tests.stages.select.method.golden_cases import cases, close


def test_psm_scores_and_the_weights_of_prm_equal_the_release() -> None:
    for case in cases("e2e"):
        valid = torch.ones(case["cls0"].shape[:2], dtype=torch.bool)
        own = of_class(psm_scores(case["cls0"], case["ins0"], valid), case["labels"])
        close(own, case["scores0"], 1e-5)
        close(own.sum(dim=1), case["label_weights1"], 1e-5)


def test_prm_and_negative_losses_and_gradients_over_a_batch_equal_the_release() -> None:
    for case in cases("e2e"):
        cls1, ins1, negative = (case[name].requires_grad_() for name in ("cls1", "ins1", "neg_cls1"))
        valid = torch.ones(cls1.shape[:2], dtype=torch.bool)
        weights = case["label_weights1"]
        positive = 0.25 * prm_loss(prm_scores(cls1, ins1, valid), case["labels"], valid, weights)
        negatives = 0.75 * negative_loss(negative, case["neg_weight"], len(cls1)) * weights.mean()
        close(positive.detach(), case["loss_stage1_loss_instance_mil"], 1e-5)
        close(negatives.detach(), case["loss_stage1_neg_loss"], 1e-5)
        gradients = torch.autograd.grad(positive + negatives, [cls1, ins1, negative])
        for ours, name in zip(gradients, ("grad_cls1", "grad_ins1", "grad_neg"), strict=True):
            close(ours, case[name], 1e-5)


def test_negatives_of_a_padded_batch_equal_the_release_image_by_image() -> None:
    for case in cases("e2e"):
        counts, boxes = case["num_per_image"], case["boxes"]
        images, most = len(counts), int(counts.max())
        image_index = torch.arange(images).repeat_interleave(counts)
        slot = torch.cat([torch.arange(int(count)) for count in counts])
        candidates = random_boxes(case["rand"], case["img_hw"].float())
        padded = pad_by_image(boxes, image_index, slot, (images, most))
        known = pad_by_image(torch.ones(boxes.shape[:2], dtype=torch.bool), image_index, slot, (images, most))
        keep = background(candidates, padded, known)
        valid = torch.ones(boxes.shape[:2], dtype=torch.bool)
        selected = boxes[torch.arange(len(boxes)), best_mask(case["scores0"], valid)]
        parts, large = part_boxes(selected, torch.zeros(len(boxes), 0, 4))
        for image in range(images):
            mine = (image_index == image) & large[:, 0]
            rois = torch.cat([candidates[image], parts[mine, 0]])
            theirs = case["neg_rois"][:, 0] == image
            close(rois, case["neg_rois"][theirs, 1:], 1e-4)
            flags = torch.cat([keep[image], large[mine, 0]])
            assert torch.equal(flags, case["neg_weight"][theirs])


def test_the_mask_of_the_refined_box_is_the_release_s() -> None:
    for case in cases("e2e"):
        boxes = case["boxes"]
        first_wins = -torch.arange(boxes.shape[1]).float().expand(len(boxes), -1)
        chosen = mask_of_box(boxes, torch.ones(boxes.shape[:2], dtype=torch.bool), case["refined1"], first_wins)
        assert torch.equal(chosen, case["masks_used"][:, 0])
