"""ResNet trunks of any width out of torchvision's blocks, with torchvision's key names."""

from collections.abc import Callable

from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck
from torchvision.ops import FrozenBatchNorm2d

from sapnet_pipe.stages.training.backbone_config import NormName, ResNetName

_LAYERS: dict[str, tuple[type[BasicBlock | Bottleneck], tuple[int, ...]]] = {
    "resnet10": (BasicBlock, (1, 1, 1, 1)),
    "resnet18": (BasicBlock, (2, 2, 2, 2)),
    "resnet34": (BasicBlock, (3, 4, 6, 3)),
    "resnet50": (Bottleneck, (3, 4, 6, 3)),
    "resnet101": (Bottleneck, (3, 4, 23, 3)),
}


class ResNetTrunk(nn.Module):
    """Stem and four stages.

    Args:
        width: Channels of the stem; the stages have 1, 2, 4, 8 times as many (times 4 with bottlenecks).
    """

    def __init__(self, name: ResNetName, norm: NormName, width: int = 64) -> None:
        super().__init__()
        block, depths = _LAYERS[name]
        make_norm = norm_layer(norm)
        self.conv1 = nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = make_norm(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self._frozen: list[nn.Module] = []
        self.channels: list[int] = []
        channels = width
        for index, depth in enumerate(depths):
            stage = _stage(block, channels, width * 2**index, depth, 1 if index == 0 else 2, make_norm)
            self.add_module(f"layer{index + 1}", stage)
            channels = width * 2**index * block.expansion
            self.channels.append(channels)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> list[Tensor]:
        """Images (B, 3, H, W) to four feature maps (B, channels[i], H/s, W/s), s = 4, 8, 16, 32."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        features = []
        for index in range(4):
            x = self.get_submodule(f"layer{index + 1}")(x)
            features.append(x)
        return features

    def freeze(self, stages: int) -> None:
        """Freeze the stem (1), the stem and the first stage (2), and so on; 0 freezes nothing.

        Frozen parts also stay in eval mode, so that a plain batch norm in them keeps its statistics.
        """
        names = ["conv1", "bn1", "layer1", "layer2", "layer3", "layer4"]
        self._frozen = [self.get_submodule(name) for name in names[: stages + 1 if stages else 0]]
        for module in self._frozen:
            module.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> "ResNetTrunk":
        """As `nn.Module.train`, but what is frozen stays in eval mode."""
        super().train(mode)
        for module in self._frozen:
            module.eval()
        return self


def norm_layer(name: NormName) -> Callable[[int], nn.Module]:
    """A normalisation by name, as a function of the number of channels."""
    if name == "gn":
        return group_norm
    return FrozenBatchNorm2d if name == "frozen_bn" else nn.BatchNorm2d


def group_norm(channels: int) -> nn.GroupNorm:
    """GroupNorm of up to 32 groups of at least 8 channels: the usual 32 x 8 at 256."""
    groups = max(g for g in (1, 2, 4, 8, 16, 32) if channels % g == 0 and (g == 1 or channels // g >= 8))
    return nn.GroupNorm(groups, channels)


def _stage(
    block: type[BasicBlock | Bottleneck],
    channels: int,
    planes: int,
    depth: int,
    stride: int,
    make_norm: Callable[[int], nn.Module],
) -> nn.Sequential:
    out = planes * block.expansion
    shortcut = None
    if stride != 1 or channels != out:
        shortcut = nn.Sequential(nn.Conv2d(channels, out, 1, stride=stride, bias=False), make_norm(out))
    first = block(channels, planes, stride, shortcut, norm_layer=make_norm)
    rest = [block(out, planes, norm_layer=make_norm) for _ in range(depth - 1)]
    return nn.Sequential(first, *rest)
