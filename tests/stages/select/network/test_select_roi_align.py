import torch
from torchvision.ops import roi_align

from sapnet_pipe.stages.select.network.roi_head import pyramid_roi_align, roi_level


def test_features_and_gradients_equal_torchvision_s_on_every_level() -> None:
    torch.manual_seed(0)
    strides = [4, 8]
    levels = [torch.randn(2, 3, 64 // s, 96 // s, requires_grad=True) for s in strides]
    corner = torch.rand(40, 2) * 110 - 25  # also outside the image
    boxes = torch.cat([corner, corner + torch.rand(40, 2) * 60], dim=1)
    image, level = torch.randint(0, 2, (40,)), torch.randint(0, 2, (40,))
    ours = pyramid_roi_align(levels, strides, boxes, image, level, bins=7, samples=2).reshape(40, 7, 7, 3)
    wanted = torch.zeros_like(ours)
    for index, stride in enumerate(strides):
        rows = level == index
        rois = torch.cat([image[:, None], boxes], dim=1)[rows]
        pooled = roi_align(levels[index], rois, 7, 1 / stride, 2, aligned=True)
        wanted = wanted.index_put((rows,), pooled.permute(0, 2, 3, 1))
    assert torch.allclose(ours, wanted, atol=1e-4)
    weights = torch.randn_like(ours)
    our_gradient = torch.autograd.grad((ours * weights).sum(), levels)
    gradient = torch.autograd.grad((wanted * weights).sum(), levels)
    for a, b in zip(our_gradient, gradient, strict=True):
        assert torch.allclose(a, b, atol=1e-3)


def test_no_boxes_give_no_features() -> None:
    none = torch.zeros(0, dtype=torch.long)
    assert pyramid_roi_align([torch.randn(1, 3, 8, 8)], [4], torch.zeros(0, 4), none, none).shape == (0, 147)


def test_each_doubling_of_the_side_moves_a_box_one_level_up() -> None:
    sides = torch.tensor([1.0, 100, 120, 230, 460, 5000])
    boxes = torch.stack([torch.zeros(6), torch.zeros(6), sides, sides], dim=1)
    assert roi_level(boxes, 224).tolist() == [0, 0, 1, 2, 3, 3]
