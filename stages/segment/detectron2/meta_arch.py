"""SOLOv2 as a Detectron2 meta architecture: our modules, losses and decoding, Detectron2's structures.

Its backbone is Detectron2's own, or built here from Detectron2's blocks where its builder cannot.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_backbone
from detectron2.modeling.backbone import FPN, ResNet
from detectron2.modeling.backbone.fpn import LastLevelMaxPool
from detectron2.modeling.backbone.resnet import BasicBlock, BasicStem, BottleneckBlock
from detectron2.structures import Boxes, ImageList, Instances
from detectron2.utils.events import get_event_storage, has_event_storage
from torch import Tensor, nn

from sapnet_pipe.stages.segment.config import HeadConfig, LossConfig
from sapnet_pipe.stages.segment.detectron2.config import decoding_of, head_of, loss_of
from sapnet_pipe.stages.segment.detectron2.instances import targets_of_entry
from sapnet_pipe.stages.segment.network import build_heads
from sapnet_pipe.stages.segment.solov2.heads import InstanceHead, MaskHead
from sapnet_pipe.stages.segment.solov2.inference import Decoding, boxes_of_masks, find_candidates, full_masks
from sapnet_pipe.stages.segment.solov2.losses import solov2_losses
from sapnet_pipe.stages.segment.solov2.model import Predictions, SOLOv2
from sapnet_pipe.stages.training.devices import train_layout
from sapnet_pipe.stages.training.image_batch import STRIDE
from sapnet_pipe.stages.training.resnet import group_norm

_BLOCKS = {10: (1, 1, 1, 1), 18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
_BASIC = (10, 18, 34)

Norm = str | Callable[[int], nn.Module]


class HostedSOLOv2(SOLOv2):
    """Our SOLOv2 behind Detectron2's calling convention; its state dict has AdelaiDet's keys.

    Args:
        pixel_mean, pixel_std: Per channel, on pixels from 0 to 255.
        head: What the targets are built by.
        layout: Of weights and images in memory, see `train_layout`.
    """

    @configurable
    def __init__(
        self,
        *,
        backbone: nn.Module,
        ins_head: InstanceHead,
        mask_head: MaskHead,
        head: HeadConfig,
        num_classes: int,
        loss: LossConfig,
        decoding: Decoding,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        layout: torch.memory_format = torch.contiguous_format,
    ) -> None:
        super().__init__(backbone, ins_head, mask_head, instance_features=head.features, instance_strides=head.strides)
        self.head, self.num_classes, self.loss_weights, self.decoding = head, num_classes, loss.model_dump(), decoding
        mean, std = torch.tensor(pixel_mean).view(-1, 1, 1), torch.tensor(pixel_std).view(-1, 1, 1)
        self.register_buffer("pixel_scale", 1 / std, persistent=False)
        self.register_buffer("pixel_shift", mean / std, persistent=False)
        self.layout = layout
        self.to(memory_format=layout)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """What the constructor takes, out of a config."""
        head, num_classes = head_of(cfg), cfg.MODEL.SOLOV2.NUM_CLASSES
        ins_head, mask_head = build_heads(head, cfg.MODEL.FPN.OUT_CHANNELS, num_classes)
        return {
            "backbone": build_backbone(cfg),
            "ins_head": ins_head,
            "mask_head": mask_head,
            "head": head,
            "num_classes": num_classes,
            "loss": loss_of(cfg),
            "decoding": decoding_of(cfg),
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            "layout": train_layout(torch.device(cfg.MODEL.DEVICE)),
        }

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return torch.device(self.pixel_scale.device)  # type: ignore[arg-type]

    def forward(self, batched_inputs: list[dict[str, Any]]) -> Any:  # type: ignore[override]  # Detectron2's way
        """Losses by name while training, else ``[{"instances": Instances}]``.

        Args:
            batched_inputs: Per image ``image`` (C, H, W) as ``INPUT.FORMAT`` says. While training ``targets``
                (ImageTargets for the padded size of this batch) or ``instances`` with gt_classes, gt_masks and perhaps
                gt_alternates; else perhaps ``height`` and ``width`` of the result.
        """
        images = self.preprocess(batched_inputs)
        predictions = super().forward(images.tensor)
        if self.training:
            return self.losses(predictions, batched_inputs)
        return [{"instances": found} for found in self.instances(predictions, batched_inputs, images.image_sizes)]

    def preprocess(self, batched_inputs: list[dict[str, Any]]) -> ImageList:
        """Normalise as `batch_images` does, bit for bit, and pad right and below to a multiple of 32."""
        images = [entry["image"].to(self.device) for entry in batched_inputs]
        normalised = [image * self.pixel_scale - self.pixel_shift for image in images]
        padded = ImageList.from_tensors(normalised, STRIDE)
        return ImageList(padded.tensor.contiguous(memory_format=self.layout), padded.image_sizes)

    def losses(self, predictions: Predictions, batched_inputs: list[dict[str, Any]]) -> dict[str, Tensor]:
        """``loss_ins`` and ``loss_cate``, attached to every prediction even where no image has an object."""
        height, width = predictions.mask_features.shape[-2:]
        targets = [
            entry["targets"]
            if "targets" in entry
            else targets_of_entry(entry, (height, width), self.head, self.num_classes)[0]
            for entry in batched_inputs
        ]
        if has_event_storage():
            pairs = sum(len(target.cell) for target in targets)
            get_event_storage().put_scalar("positive_pairs", pairs)
        moved = [type(target)(*(tensor.to(self.device) for tensor in target)) for target in targets]
        return solov2_losses(predictions, moved, **self.loss_weights)

    def instances(
        self, predictions: Predictions, batched_inputs: list[dict[str, Any]], sizes: list[tuple[int, int]]
    ) -> list[Instances]:
        """Objects of each image at ``height`` x ``width``, their boxes around their masks; empty masks are left out."""
        found = []
        candidates = find_candidates(predictions, self.instance_strides, self.decoding)
        for entry, best, size in zip(batched_inputs, candidates, sizes, strict=True):
            image_size = int(size[0]), int(size[1])
            output = int(entry.get("height", image_size[0])), int(entry.get("width", image_size[1]))
            masks = full_masks(best.probabilities, image_size, output, self.decoding.mask_threshold)
            boxes = boxes_of_masks(masks)
            kept = boxes[:, 2] > 0
            result = Instances(output)
            result.pred_boxes, result.scores = Boxes(boxes[kept]), best.scores[kept]
            result.pred_classes, result.pred_masks = best.classes[kept], masks[kept]
            found.append(result)
        return found


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
