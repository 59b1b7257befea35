"""Losses and gradients against golden values, and multi-mask supervision against hand-worked numbers."""

import numpy as np
import pytest
import torch
from torchvision.ops import sigmoid_focal_loss

from sapnet_pipe.stages.segment.solov2.losses import category_loss, mask_losses, pairwise_dice, solov2_losses
from sapnet_pipe.stages.segment.solov2.model import Predictions
from sapnet_pipe.stages.segment.solov2.targets import ImageTargets, build_targets
from tests.stages.segment.solov2.golden_solov2 import GRIDS, load, predictions_of, targets_of, tensor


@pytest.mark.parametrize("case", ["A_default_ranges", "B_small_ranges"])
def test_losses_and_gradients_equal_the_golden_ones(case):
    golden = load("losses")
    images, ranges = golden[f"{case}/images"], golden[f"{case}/scale_ranges"].tolist()
    predictions = predictions_of(golden, torch.from_numpy(images))
    targets = [targets_of(golden, f"gt{image}", (32, 40), scale_ranges=ranges) for image in images]
    losses = solov2_losses(predictions, targets)
    for name in ("loss_ins", "loss_cate"):
        torch.testing.assert_close(losses[name], torch.tensor(golden[f"{case}/{name}"]), rtol=1e-5, atol=0)
    assert sum(len(target.cell) for target in targets) == golden[f"{case}/num_masks"]
    assert sum(int((target.category < 5).sum()) for target in targets) == golden[f"{case}/num_ins"]
    (losses["loss_ins"] + losses["loss_cate"]).backward()
    for level in range(len(GRIDS)):
        grad_cate, kernels = predictions.cate_logits[level].grad, predictions.kernels[level]
        grad_kernel = torch.zeros_like(kernels) if kernels.grad is None else kernels.grad
        torch.testing.assert_close(grad_cate, tensor(golden[f"{case}/grad_cate/{level}"]), rtol=1e-5, atol=1e-7)
        torch.testing.assert_close(grad_kernel, tensor(golden[f"{case}/grad_kernel/{level}"]), rtol=1e-5, atol=1e-7)
    grad_mask = tensor(golden[f"{case}/grad_mask"])
    torch.testing.assert_close(predictions.mask_features.grad, grad_mask, rtol=1e-5, atol=1e-7)


def test_dice_and_its_gradient_equal_the_golden_ones():
    golden = load("elementary")
    logits = tensor(golden["dice/logits"]).flatten(1).requires_grad_()
    dice = pairwise_dice(logits, tensor(golden["dice/target"]).flatten(1)).diagonal()
    torch.testing.assert_close(dice, tensor(golden["dice/loss_per_mask"]), rtol=1e-5, atol=1e-7)
    dice.sum().backward()
    grad = tensor(golden["dice/grad_logits_of_sum"]).flatten(1)
    torch.testing.assert_close(logits.grad, grad, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("name", "alpha", "gamma"), [("a025_g2", 0.25, 2), ("a05_g1", 0.5, 1), ("noalpha_g2", -1, 2), ("a025_g0", 0.25, 0)]
)
def test_the_focal_loss_we_use_equals_the_golden_one(name, alpha, gamma):
    golden = load("elementary")
    logits = tensor(golden["focal/logits"]).requires_grad_()
    one_hot = tensor(golden["focal/onehot"]).float()
    loss = sigmoid_focal_loss(logits, one_hot, alpha=alpha, gamma=gamma)
    torch.testing.assert_close(loss, tensor(golden[f"focal/{name}/none"]), rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(loss.sum(), tensor(golden[f"focal/{name}/sum"]), rtol=1e-5, atol=0)
    torch.testing.assert_close(loss.mean(), tensor(golden[f"focal/{name}/mean"]), rtol=1e-5, atol=0)
    loss.sum().backward()
    grad = tensor(golden[f"focal/{name}/grad_of_sum"])
    torch.testing.assert_close(logits.grad, grad, rtol=1e-4, atol=1e-5)


def test_the_category_loss_of_labels_equals_the_golden_focal_loss_over_its_normaliser():
    golden = load("elementary")
    logits, labels = tensor(golden["focal/logits"]), torch.from_numpy(golden["focal/labels"])
    assert torch.equal(torch.nn.functional.one_hot(labels, 6)[:, :5], torch.from_numpy(golden["focal/onehot"]).long())
    ours = category_loss(logits.T[None], labels[None], 0.25, 2.0)
    expected = tensor(golden["focal/a025_g2/sum"]) / (int((labels < 5).sum()) + 1)
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=0)
    focal = sigmoid_focal_loss(logits, tensor(golden["focal/onehot"]).float())
    torch.testing.assert_close(focal.mean(), tensor(golden["focal_cls/mean"]), rtol=1e-5, atol=0)
    weighted = (focal * tensor(golden["focal_cls/weight"])[:, None]).sum() / 7
    torch.testing.assert_close(weighted, tensor(golden["focal_cls/weighted_avg7"]), rtol=1e-5, atol=0)


def test_no_backward_pass_goes_through_levels_without_a_positive_cell_unless_all_are():
    golden = load("losses")
    predictions = predictions_of(golden, [0])
    targets = targets_of(golden, "gt0", (32, 40))
    loss = solov2_losses(predictions, [targets])["loss_ins"]
    loss.backward()
    ends = np.cumsum(np.square(GRIDS))
    used = set(np.searchsorted(ends, targets.cell.numpy(), side="right").tolist())
    assert 0 < len(used) < len(GRIDS)
    assert {level for level, kernels in enumerate(predictions.kernels) if kernels.grad is not None} == used
    empty = targets._replace(cell=targets.cell[:0], instance=targets.instance[:0])
    predictions = predictions_of(golden, [0])
    solov2_losses(predictions, [empty])["loss_ins"].backward()
    assert all(kernels.grad is not None for kernels in predictions.kernels)


def _image(alternates: list[np.ndarray] | None = None, count: int = 2) -> ImageTargets:
    masks = np.zeros((count, 32, 32), np.uint8)
    if count:
        masks[0, 4:16, 4:16] = 1
        masks[1, 16:28, 12:28] = 1
    return build_targets(
        masks, np.arange(count), alternates, feat_size=(8, 8), num_grids=(4,), scale_ranges=((1, 64),), sigma=0.2,
        num_classes=2,
    )  # fmt: skip


def _predictions(images: int = 1) -> Predictions:
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(images, *shape, generator=generator).requires_grad_()

    return Predictions([draw(2, 4, 4)], [draw(6, 4, 4)], draw(6, 8, 8))


def _alternates(*counts: int) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    return [(rng.random((count, 32, 32)) > 0.5).astype(np.uint8) for count in counts]


def test_alternates_add_a_quarter_of_their_mean_dice():
    targets, predictions = _image(_alternates(3, 1)), _predictions()
    kernels, features = predictions.kernels[0][0].flatten(1), predictions.mask_features[0]
    ours = mask_losses(kernels, features, targets, 0.25)
    scores = torch.einsum("dn,dhw->nhw", kernels[:, targets.cell], features).sigmoid()

    def dice(score: torch.Tensor, row: int) -> torch.Tensor:
        mask = targets.masks[row].float()
        return 1 - 2 * (score * mask).sum() / ((score**2).sum() + 0.001 + (mask**2).sum() + 0.001)

    for loss, score, instance in zip(ours, scores, targets.instance.tolist(), strict=True):
        rows = [2, 3, 4] if instance == 0 else [5]
        expected = dice(score, instance) + 0.25 * torch.stack([dice(score, row) for row in rows]).mean()
        torch.testing.assert_close(loss, expected)


def test_labels_without_alternates_train_as_usual():
    predictions = _predictions()
    kernels, features = predictions.kernels[0][0].flatten(1), predictions.mask_features[0]
    plain = mask_losses(kernels, features, _image(), 0.25)
    some = _image(_alternates(0, 2))
    mixed = mask_losses(kernels, features, some, 0.25)
    first = some.instance == 0
    torch.testing.assert_close(mixed[first], plain[first])
    assert (mixed[~first] > plain[~first]).all()
    torch.testing.assert_close(mask_losses(kernels, features, some, 0.0), plain)


def test_batch_without_positive_cells_keeps_the_graph_where_the_reference_crashes():
    predictions = _predictions(2)
    losses = solov2_losses(predictions, [_image(count=0), _image(count=0)])
    assert losses["loss_ins"].item() == 0
    assert losses["loss_cate"].item() > 0
    leaves = (predictions.kernels[0], predictions.mask_features, predictions.cate_logits[0])
    kernels, features, logits = torch.autograd.grad(torch.stack([*losses.values()]).sum(), leaves)
    assert not kernels.any()
    assert not features.any()
    assert logits.abs().sum() > 0


def test_an_image_without_instances_changes_no_mask_loss():
    predictions = _predictions(2)
    alone = Predictions(
        cate_logits=[x[:1] for x in predictions.cate_logits],
        kernels=[x[:1] for x in predictions.kernels],
        mask_features=predictions.mask_features[:1],
    )
    both = solov2_losses(predictions, [_image(), _image(count=0)])
    torch.testing.assert_close(both["loss_ins"], solov2_losses(alone, [_image()])["loss_ins"])


def test_losses_stay_in_float32_under_autocast():
    predictions = _predictions()
    plain = solov2_losses(predictions, [_image()])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = solov2_losses(predictions, [_image()])
    for name, loss in mixed.items():
        assert loss.dtype == torch.float32
        torch.testing.assert_close(loss, plain[name])
