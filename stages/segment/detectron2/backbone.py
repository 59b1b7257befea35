"""ResNet-FPN of any depth, width and GroupNorm out of Detectron2's blocks, for what its own builder cannot build."""

from collections.abc import Callable

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling.backbone import FPN, ResNet
from detectron2.modeling.backbone.fpn import LastLevelMaxPool
from detectron2.modeling.backbone.resnet import BasicBlock, BasicStem, BottleneckBlock
from torch import nn

from sapnet_pipe.stages.training.resnet import group_norm

_BLOCKS = {10: (1, 1, 1, 1), 18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
_BASIC = (10, 18, 34)

Norm = str | Callable[[int], nn.Module]


def build_narrow_resnet_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """The network of `stages.training.backbone.build_resnet_fpn` with Detectron2's key names.

    ``NORM: GN`` is our GroupNorm of at least 8 channels a group, which equals Detectron2's 32 groups at 256 channels.
    """
    resnets, norm = cfg.MODEL.RESNETS, _norm(cfg.MODEL.RESNETS.NORM)
    stem = BasicStem(in_channels=input_shape.channels, out_channels=resnets.STEM_OUT_CHANNELS, norm=norm)
    trunk = ResNet(
        stem,
        [_stage(cfg, index, norm) for index in range(4)],
        out_features=resnets.OUT_FEATURES,
        freeze_at=cfg.MODEL.BACKBONE.FREEZE_AT,
    )
    return FPN(
        bottom_up=trunk,
        in_features=cfg.MODEL.FPN.IN_FEATURES,
        out_channels=cfg.MODEL.FPN.OUT_CHANNELS,
        norm=_norm(cfg.MODEL.FPN.NORM),
        top_block=LastLevelMaxPool(),
    )


def _stage(cfg: CfgNode, index: int, norm: Norm) -> list[nn.Module]:
    resnets = cfg.MODEL.RESNETS
    count, out = _BLOCKS[resnets.DEPTH][index], resnets.RES2_OUT_CHANNELS * 2**index
    options = {
        "stride_per_block": [1 if index == 0 else 2] + [1] * (count - 1),
        "in_channels": resnets.STEM_OUT_CHANNELS if index == 0 else out // 2,
        "out_channels": out,
        "norm": norm,
    }
    if resnets.DEPTH in _BASIC:
        return list(ResNet.make_stage(BasicBlock, count, **options))
    options["bottleneck_channels"] = resnets.WIDTH_PER_GROUP * 2**index
    return list(ResNet.make_stage(BottleneckBlock, count, stride_in_1x1=resnets.STRIDE_IN_1X1, **options))


def _norm(name: str) -> Norm:
    return group_norm if name == "GN" else name
