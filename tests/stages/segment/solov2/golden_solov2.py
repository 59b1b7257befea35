"""Reading the golden vectors of SOLOv2 (tests/golden/solov2): numbers a reference computed, one file per part."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sapnet_pipe.stages.segment.solov2.heads import InstanceHead, MaskHead
from sapnet_pipe.stages.segment.solov2.inference import Decoding, boxes_of_masks, find_candidates, full_masks
from sapnet_pipe.stages.segment.solov2.model import Predictions, SOLOv2
from sapnet_pipe.stages.segment.solov2.targets import ImageTargets, build_targets
from tests.golden_record import Recorded
from tests.places import GOLDEN

FOLDER = GOLDEN / "solov2"
GRIDS = (40, 36, 24, 16, 12)
STRIDES = (8, 8, 16, 32, 32)
FEATURES = ("p2", "p3", "p4", "p5", "p6")
RANGES = ((1, 96), (48, 192), (96, 384), (192, 768), (384, 2048))
NUM_CLASSES = 5
FIRST_CELL = np.concatenate([[0], np.cumsum(np.square(GRIDS))])

Golden = dict[str, NDArray[Any]]


def load(name: str) -> Golden:
    """All arrays of a file."""
    with np.load(FOLDER / f"{name}.npz", allow_pickle=False) as content:
        return Recorded(f"solov2/{name}", {key: content[key] for key in content.files})


def tensor(array: NDArray[Any]) -> Tensor:
    """A tensor; float16 inputs stand for exact float32 values."""
    return torch.from_numpy(array.astype(np.float32) if array.dtype == np.float16 else array)


def unpack(packed: NDArray[np.uint8], shape: Any) -> NDArray[np.uint8]:
    """Bit-packed masks -> (N, H, W) uint8."""
    height, width = (int(side) for side in shape[-2:])
    return np.unpackbits(packed, axis=1, count=height * width).reshape(-1, height, width)


class GivenFeatures(nn.Module):
    """A backbone that returns what it was given."""

    def __init__(self, features: dict[str, Tensor]) -> None:
        super().__init__()
        self.features = features

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """The features, whatever the images."""
        return self.features


def features_of(golden: Golden) -> dict[str, Tensor]:
    """The pyramid maps of heads.npz."""
    return {name: tensor(golden[f"feat/{name}"]) for name in FEATURES}


def model_of(weights: Golden, features: dict[str, Tensor], **settings: Any) -> SOLOv2:
    """The small golden model with the weights ``sd/*`` on fixed features."""
    options: dict[str, Any] = {"norm": "gn", "num_convs": 2, "mask_channels": 32, **settings}
    norm = options["norm"]
    head = InstanceHead(
        in_channels=32, channels=32, num_convs=options["num_convs"], num_classes=5, num_kernels=32,
        num_grids=GRIDS, norm=norm,
    )  # fmt: skip
    mask_head = MaskHead(in_channels=32, channels=options["mask_channels"], num_masks=32, norm=norm)
    backbone = GivenFeatures(features)
    model = SOLOv2(backbone, head, mask_head, instance_features=FEATURES, instance_strides=STRIDES)
    model.load_state_dict({key[3:]: tensor(weights[key]) for key in weights if key.startswith("sd/")})
    return model


def predictions_of(golden: Golden, images: Any = slice(None)) -> Predictions:
    """Stored predictions as leaves that collect gradients."""

    def leaf(key: str) -> Tensor:
        return tensor(golden[key])[images].clone().requires_grad_()

    levels = range(len(GRIDS))
    return Predictions(
        [leaf(f"cate_pred/{level}") for level in levels],
        [leaf(f"kernel_pred/{level}") for level in levels],
        leaf("mask_pred"),
    )


def targets_of(golden: Golden, prefix: str, feat_size: Any, **settings: Any) -> ImageTargets:
    """Our targets for the objects stored under `prefix`."""
    options: dict[str, Any] = {"num_grids": GRIDS, "scale_ranges": RANGES, "sigma": 0.2, "num_classes": 5, **settings}
    return build_targets(
        unpack(golden[f"{prefix}/masks"], golden[f"{prefix}/size"]),
        golden[f"{prefix}/classes"],
        box_xyxy=golden[f"{prefix}/boxes"],
        feat_size=(int(feat_size[0]), int(feat_size[1])),
        **options,
    )


class Found(NamedTuple):
    """n objects of one image: scores (n,) falling, classes (n,), masks (n, H, W) bool, box_xyxy (n, 4)."""

    scores: Tensor
    classes: Tensor
    masks: Tensor
    box_xyxy: Tensor


def decode(
    predictions: Predictions,
    image_sizes: Sequence[tuple[int, int]],
    output_sizes: Sequence[tuple[int, int]],
    decoding: Decoding,
) -> list[Found]:
    """Both halves of our decoding, for every image of a batch."""
    results = []
    candidates = find_candidates(predictions, STRIDES, decoding)
    for best, image_size, output_size in zip(candidates, image_sizes, output_sizes, strict=True):
        masks = full_masks(best.probabilities, image_size, output_size, decoding.mask_threshold)
        results.append(Found(best.scores, best.classes, masks, boxes_of_masks(masks)))
    return results
