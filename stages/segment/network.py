"""SOLOv2 on torchvision's ResNet-FPN, built from settings."""

from collections.abc import Callable

from torch import nn
from torchvision.models.resnet import Bottleneck

from sapnet_pipe.stages.segment.config import HeadConfig, SegmentBackboneConfig
from sapnet_pipe.stages.segment.solov2.heads import InstanceHead, MaskHead
from sapnet_pipe.stages.segment.solov2.model import SOLOv2
from sapnet_pipe.stages.segment.weights.pickled_weights import MSRA, is_pickled, read_pickled_backbone
from sapnet_pipe.stages.training.backbone import ResNetFpn, build_backbone, load_trunk
from sapnet_pipe.stages.training.selector_backbone import is_run_folder


def build_solov2(
    backbone: SegmentBackboneConfig, head: HeadConfig, num_classes: int, *, warn: Callable[[str], None], load: bool
) -> tuple[SOLOv2, SegmentBackboneConfig]:
    """Build the network.

    Args:
        warn: Told when the weights want another `stride_in_1x1` than the settings have, or cannot be verified, and what
            was taken of a selector's run.
        load: False where a checkpoint of the whole network follows.
    Returns: the network, and the backbone's settings with every ``auto`` replaced.
    Raises: UserError as `build_backbone`.
    """
    trunk, resolved = _backbone(backbone, warn, load)
    if resolved.stride_in_1x1:
        _move_strides(trunk)
    ins_head, mask_head = build_heads(head, backbone.fpn_channels, num_classes)
    model = SOLOv2(trunk, ins_head, mask_head, instance_features=head.features, instance_strides=head.strides)
    return model, resolved


def _backbone(
    config: SegmentBackboneConfig, warn: Callable[[str], None], load: bool
) -> tuple[ResNetFpn, SegmentBackboneConfig]:
    """The backbone and its resolved settings; Detectron2's own weight files are loaded here."""
    pickled = is_pickled(config.weights)
    trunk, resolved = build_backbone(config, load=load and not pickled, warn=warn)
    if load and config.stride_in_1x1 and is_run_folder(config.weights):
        warn(f"{config.weights}: takes backbone.stride_in_1x1 = False, as every selector has it.")
        return trunk, resolved.model_copy(update={"stride_in_1x1": False})
    if not (load and pickled):
        return trunk, resolved
    weights = read_pickled_backbone(config.weights, config.name)
    load_trunk(trunk.trunk, weights.state, config.weights)
    if config.weights == MSRA:
        warn("backbone.weights = msra: that file is not verified, since its publisher gives no checksum.")
    if weights.stride_in_1x1 != config.stride_in_1x1:
        warn(f"{config.weights}: takes backbone.stride_in_1x1 = {weights.stride_in_1x1}, as these weights want it.")
    return trunk, resolved.model_copy(update={"stride_in_1x1": weights.stride_in_1x1})


def build_heads(head: HeadConfig, in_channels: int, num_classes: int) -> tuple[InstanceHead, MaskHead]:
    """The two heads on a pyramid of `in_channels` channels, with random weights."""
    ins_head = InstanceHead(
        in_channels=in_channels,
        channels=head.instance_channels,
        num_convs=head.instance_convs,
        num_classes=num_classes,
        num_kernels=head.kernel_channels,
        num_grids=head.num_grids,
        norm=head.norm,
        norm_groups=head.norm_groups,
        prior_prob=head.prior_prob,
    )
    mask_head = MaskHead(
        in_channels=in_channels,
        channels=head.mask_channels,
        num_masks=head.kernel_channels,
        norm=head.norm,
        norm_groups=head.norm_groups,
    )
    return ins_head, mask_head


def _move_strides(network: nn.Module) -> None:
    """Put every bottleneck's stride on its first convolution, where the MSRA weights were trained with it."""
    for block in network.modules():
        if isinstance(block, Bottleneck) and block.conv2.stride != (1, 1):
            block.conv1.stride, block.conv2.stride = block.conv2.stride, (1, 1)
