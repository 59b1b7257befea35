"""Recorded numbers that depend on the release's own rules (`release_rules`), and those beside them that ours shares."""

import torch
from torch import Tensor

from sapnet_pipe.stages.select.method.boxes import box_area, box_iou
from sapnet_pipe.stages.select.method.mps import mps_alternates
from sapnet_pipe.stages.select.method.pdg import distance_score, neighbour_distance, same_class_neighbours
from sapnet_pipe.stages.select.method.psm_prm import prm_scores, psm_loss, psm_scores
from tests.stages.select.method.golden_cases import cases, close
from tests.stages.select.method.release_rules import mine, positives, select

SIZES = torch.tensor([32.0, 64.0, 128.0])  # sides of a square between small, medium, large and huge
PLACES_OF_ALTERNATES = [1, 3, 5]  # in the release, of all six masks by falling score


def centres(boxes: Tensor) -> Tensor:
    return (boxes[:, :2] + boxes[:, 2:]) / 2


def joined_neighbours(points: Tensor, labels: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Neighbours within each image of a batch: (N, P, 2) and (N, P)."""
    parts = [
        same_class_neighbours(xy, own)
        for xy, own in zip(points.split(counts.tolist()), labels.split(counts.tolist()), strict=True)
    ]
    most = max(known.shape[1] for _, known in parts)
    pad = torch.nn.functional.pad
    xy = torch.cat([pad(xy, (0, 0, 0, most - xy.shape[1])) for xy, _ in parts])
    return xy, torch.cat([pad(known, (0, most - known.shape[1])) for _, known in parts])


def test_points_are_the_centres_of_the_true_boxes_and_guidance_scales_the_logits() -> None:
    for case in cases("pdg"):
        close(centres(case["gt_true_boxes"]), case["points"], 1e-6)
        close(case["S_dis"][..., None] * case["cls_logits"], case["cls_logits_scaled"], 1e-6)
        assert (case["points"] <= case["img_hw"].flip(0)).all(), "x, y within width, height"
    for case in cases("ppg"):
        close(centres(case["gt_true_boxes"]), case["points"], 1e-6)
        _, inside = neighbour_distance(
            case["points"], case["boxes"], *same_class_neighbours(case["points"], case["labels"])
        )
        assert torch.equal(inside > 0, case["neighbour_inside"].bool())


def test_the_positives_of_the_release_are_scaled_about_a_bag_box() -> None:
    for case in cases("ppg"):
        neighbours = same_class_neighbours(case["points"], case["labels"])
        found = positives(case["refined"], case["boxes"], case["points"], *neighbours)
        close(found, case["positives"], 5e-5)


def test_random_boxes_are_four_draws_of_torch() -> None:
    for case in cases("npg"):
        torch.manual_seed(int(case["torch_seed"]))
        drawn = torch.stack([torch.rand(int(case["num_random"])) for _ in range(4)])
        assert torch.equal(drawn, case["rand"])


def test_the_selection_of_the_release() -> None:
    for number, case in enumerate(cases("selection")):
        assert int(case["stage"]) == (number >= 5), "both stages select alike"
        size = case["img_hw"].float().expand(len(case["labels"]), 2)
        valid = case["valid"][..., 0].bool()
        found = select(case["cls_logits"], case["ins_logits"], valid, case["labels"], case["boxes"], size)
        close(found.cls_score, case["cls_score"], 1e-6)
        close(found.raw, case["box_raw"], 1e-6)
        close(found.before, case["box_before_bms"], 2e-6)
        for row, box in enumerate(case["box_before_bms"]):
            mined = mine(box, case["boxes"][row])
            assert mined.branch == case["bms_branch"][row].tolist()
            close(mined.box, case["box_after_bms"][row], 2e-6)


def test_the_mining_of_the_release_step_by_step() -> None:
    for case in cases("bms"):
        for row, selected in enumerate(case["selected"]):
            mined = mine(selected, case["boxes"][row])
            assert mined.branch == case["branch"][row].tolist()
            close(torch.tensor(mined.iou).nan_to_num(-1), case["iou"][row].nan_to_num(-1), 1e-6)
            close(torch.stack(mined.before), case["box_before_step"][row], 1e-6)
            close(mined.box, case["mined"][row], 1e-6)


def test_accuracy_is_the_share_of_bags_whose_own_class_scores_highest() -> None:
    for case in cases("losses"):
        valid = case["valid"][..., 0].bool()
        scores = psm_scores if int(case["stage"]) == 0 else prm_scores
        best = scores(case["cls_logits"], case["ins_logits"], valid).sum(dim=1).argmax(dim=1)
        close(100 * (best == case["labels"]).float().mean(), case["bag_acc"].flatten()[0], 1e-4)


def test_the_mask_loss_is_equation_11_and_the_categories_learn_from_the_pseudo_mask_alone() -> None:
    for case in [*cases("mask_map"), *cases("e2e")]:
        many = "loss_loss_mask" in case
        losses = case["mask_losses"][:4] if many else case["mask_losses"]
        classes = case["mask_losses"][4:] if many else case["cls_losses"]
        close(losses[0] + 0.25 * losses[1:].mean(), case["loss_loss_mask" if many else "loss_mask"].flatten()[0], 1e-5)
        close(classes[0], case["loss_loss_cls" if many else "loss_cls"].flatten()[0], 1e-6)


def test_alternates_are_the_release_s_where_the_chosen_mask_scores_highest() -> None:
    compared = 0
    for case in [*cases("mask_map"), *cases("e2e")]:
        scores, used = case["scores" if "scores" in case else "scores1"][:, :6], case["masks_used"]
        ranked = scores.sort(dim=1, descending=True, stable=True).indices
        assert torch.equal(used[:, 1:], ranked[:, PLACES_OF_ALTERNATES])
        ours = mps_alternates(scores, torch.ones_like(scores, dtype=torch.bool), used[:, 0])
        best = ranked[:, 0] == used[:, 0]
        assert torch.equal(ours[best], used[best, 1:])
        compared += int(best.sum())
    assert compared > 5


def test_the_box_of_the_mask_head_is_the_refined_one_with_its_last_pixel() -> None:
    further = torch.tensor([0.0, 0, 1, 1])
    for case in cases("mask_map"):
        close(case["refined"] + further, case["box_for_mask_head"], 1e-6)
    for case in cases("e2e"):
        close(case["refined1"] + further, case["boxes_for_mask_head"], 1e-5)


def test_whole_batches_of_the_release_from_logits_to_refined_boxes() -> None:
    for case in cases("e2e"):
        counts, labels, boxes = case["num_per_image"], case["labels"], case["boxes"]
        points = centres(case["gt_true_boxes"])
        size = case["img_hw"].float().repeat_interleave(counts, dim=0)
        neighbours = joined_neighbours(points, labels, counts)
        valid = torch.ones(boxes.shape[:2], dtype=torch.bool)
        first = select(case["cls0"], case["ins0"], valid, labels, boxes, size)
        refined = torch.stack([mine(box, bag).box for box, bag in zip(first.before, boxes, strict=True)])
        close(refined, case["refined0"], 1e-5)
        close(first.weight, case["scores0"], 1e-5)
        bags = positives(case["refined0"], boxes, points, *neighbours)
        images = torch.arange(len(counts)).repeat_interleave(counts).repeat_interleave(26)
        close(torch.cat([images[:, None].float(), bags.flatten(0, 1)], dim=1), case["positives_rois"], 1e-4)
        every = torch.ones(bags.shape[:2], dtype=torch.bool)
        second = select(case["cls1"], case["ins1"], every, labels, bags, size)
        close(second.weight, case["scores1"], 1e-5)
        again = torch.stack([mine(box, bag).box for box, bag in zip(second.before, bags, strict=True)])
        close(again, case["refined1"], 1e-5)


def test_the_psm_loss_of_a_batch_is_ours_on_scaled_logits() -> None:
    for case in cases("e2e"):
        labels, cls, ins = case["labels"], case["cls0"].requires_grad_(), case["ins0"].requires_grad_()
        points = centres(case["gt_true_boxes"])
        neighbours = joined_neighbours(points, labels, case["num_per_image"])
        s_dis = distance_score(points, case["boxes"], *neighbours, power=0.5, exponent=1 / 64)
        valid = torch.ones(cls.shape[:2], dtype=torch.bool)
        scores = psm_scores(s_dis[..., None] * cls, ins, valid)
        loss = 0.25 * psm_loss(scores, labels, valid)
        close(loss.detach(), case["loss_stage0_loss_instance_mil"].flatten()[0], 1e-5)
        for ours, name in zip(torch.autograd.grad(loss, [cls, ins]), ("grad_cls0", "grad_ins0"), strict=True):
            close(ours, case[name], 1e-5)


def test_logged_accuracies_and_overlaps_of_a_batch() -> None:
    for case in cases("e2e"):
        labels, boxes = case["labels"], case["boxes"]
        points, valid = centres(case["gt_true_boxes"]), torch.ones(boxes.shape[:2], dtype=torch.bool)
        neighbours = joined_neighbours(points, labels, case["num_per_image"])
        s_dis = distance_score(points, boxes, *neighbours, power=0.5, exponent=1 / 64)
        stages = (
            psm_scores(s_dis[..., None] * case["cls0"], case["ins0"], valid),
            prm_scores(case["cls1"], case["ins1"], torch.ones(case["cls1"].shape[:2], dtype=torch.bool)),
        )
        for stage, scores in enumerate(stages):
            right = (scores.sum(dim=1).argmax(dim=1) == labels).float().mean()
            close(100 * right, case[f"loss_stage{stage}_bag_acc"].flatten()[0], 1e-4)
            overlap = box_iou(case[f"refined{stage}"], case["gt_true_boxes"])
            close(overlap.mean(), case[f"loss_stage{stage}_mean_ious"].flatten()[0], 1e-4)
            level = torch.bucketize(box_area(case["gt_true_boxes"]).sqrt(), SIZES)
            for place, size in enumerate("smlh"):
                own = overlap[level == place]
                mean = own.mean() if len(own) else torch.tensor(0.0)
                close(mean, case[f"loss_stage{stage}_{size}"].flatten()[0], 1e-4)
