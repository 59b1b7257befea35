"""The Segment Anything network behind four plain functions: prepare, encode, and masks for points and for boxes.

The exact path gives what `SamPredictor` gives, bit for bit in float32; the fast path the same except for rounding.

Points and boxes are in original-image pixels. A point goes to SAM as it is: SAM takes coordinates as pixel indices
and moves them to the pixel's centre itself, after scaling.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from segment_anything import sam_model_registry
from segment_anything.modeling import Sam
from segment_anything.utils.transforms import ResizeLongestSide
from torch import Tensor

from sapnet_pipe.data.errors import UserError
from sapnet_pipe.stages.bags.sam.decoded_masks import DecodedMasks
from sapnet_pipe.stages.bags.sam.decoder import ImageSide, PromptDecoder
from sapnet_pipe.stages.bags.sam.exact_encoder import ExactEncoder
from sapnet_pipe.stages.bags.sam.fast_encoder import compiled, speed_up_encoder
from sapnet_pipe.stages.bags.sam.mask_enlarging import MaskEnlarger, innermost_points, pooled_features
from sapnet_pipe.stages.bags.tiny_sam.model import build_tiny_sam
from sapnet_pipe.stages.training.checkpoint import load_tensors, unwrapped

_WIDTH_KEY = "image_encoder.pos_embed"
_WIDTHS = {768: "vit_b", 1024: "vit_l", 1280: "vit_h", 128: "tiny"}
_POINT_TOKENS = np.arange(1, 4, dtype=np.int8)


@dataclass(frozen=True, slots=True)
class SamOptions:
    """How SAM computes.

    Args:
        fast: None for the exact path; else the precision of the fast one's encoder.
        decode_batch: Prompts of one image that the fast path decodes together.
        features: Also give SAM's image features, averaged over each mask.
        innermost: Also give the innermost point of each mask.
        compile: Images per batch of the encoder that `torch.compile` makes; 0 for the plain one.
    """

    fast: torch.dtype | None = None
    decode_batch: int = 1
    features: bool = False
    innermost: bool = False
    compile: int = 0


EXACT = SamOptions()


@dataclass(frozen=True, slots=True)
class PreparedImage:
    """(3, h, w) uint8 RGB, scaled to SAM's long side, and the (height, width) it had before."""

    pixels: Tensor
    original_size: tuple[int, int]


@dataclass(frozen=True, slots=True)
class EncodedImage:
    """An image as SAM's decoder sees it; sizes are (height, width), before and after scaling to SAM's long side."""

    features: Tensor
    position_code: Tensor
    original_size: tuple[int, int]
    input_size: tuple[int, int]
    side: ImageSide = field(default_factory=ImageSide)


class SamPrompter:
    """A SAM that is asked for masks: first `prepare` and `encode`, then any prompts on the encoded image."""

    def __init__(self, sam: Sam, options: SamOptions = EXACT) -> None:
        """Args: sam: In evaluation mode; on the fast path its encoder is changed in place."""
        self._sam, self._options = sam, options
        self._transform = ResizeLongestSide(sam.image_encoder.img_size)
        if options.fast is not None:
            speed_up_encoder(sam.image_encoder, options.fast)
        self._encoder: Callable[[Tensor], Tensor] = sam.image_encoder
        if options.compile:
            self._encoder = compiled(sam.image_encoder, options.compile)
        elif options.fast is None and sam.device.type == "cpu":
            self._encoder = ExactEncoder(sam.image_encoder)
        self._decoder, self._enlarger = PromptDecoder(sam), MaskEnlarger(sam)

    def position_code(self) -> Tensor:
        """(1, C, h, w) code of the grid of every image."""
        return self._decoder.position_code()

    def prepare(self, image: NDArray[np.uint8]) -> PreparedImage:
        """(H, W, 3) uint8 RGB scaled; takes no device, so that another thread can do it ahead."""
        scaled = self._transform.apply_image(image)
        height, width = image.shape[:2]
        return PreparedImage(torch.as_tensor(scaled).permute(2, 0, 1).contiguous(), (height, width))

    @torch.inference_mode()
    def encode(self, images: Sequence[PreparedImage]) -> list[EncodedImage]:
        """Embed images: together on the fast path; one by one on the exact one, where batching would change bits."""
        size = 1 if self._options.fast is None else max(1, len(images))
        position_code, encoded = self.position_code(), []
        for start in range(0, len(images), size):
            part = images[start : start + size]
            pixels = [self._sam.preprocess(image.pixels.to(self._sam.device)[None]) for image in part]
            features = self._encoder(torch.cat(pixels))
            for image, feature in zip(part, features.split(1), strict=True):
                height, width = image.pixels.shape[1:]
                encoded.append(EncodedImage(feature, position_code, image.original_size, (height, width)))
        if self._sam.device.type == "cuda":
            torch.cuda.synchronize(self._sam.device)  # the decoder would wait for it, and be charged
        return encoded

    @torch.inference_mode()
    def point_masks(self, image: EncodedImage, point_xy: NDArray[np.float64]) -> list[DecodedMasks]:
        """SAM's three multimask tokens (1, 2, 3) for each of (N, 2) points.

        The exact path decodes prompts one by one: several at once change the last bits of the logits, and a bag would
        depend on the other points of its image.
        """
        decoded: list[DecodedMasks] = []
        for part in self._batches(len(point_xy)):
            low_res, score = self._decode(image, point_xy[part], None)
            masks = self._masks(image, low_res[:, 1:], score[:, 1:], np.tile(_POINT_TOKENS, len(score)))
            decoded += [masks.rows(start, start + 3) for start in range(0, len(masks), 3)]
        return decoded

    @torch.inference_mode()
    def box_masks(
        self, image: EncodedImage, point_xy: NDArray[np.float64], box_xyxy: NDArray[np.float32]
    ) -> list[DecodedMasks]:
        """The best of SAM's four tokens, by its own score, for each point together with its box.

        Args:
            point_xy: (N, 2).
            box_xyxy: (N, 4), right and bottom exclusive.
        Returns: N times one mask.
        """
        decoded: list[DecodedMasks] = []
        for part in self._batches(len(point_xy)):
            low_res, score = self._decode(image, point_xy[part], box_xyxy[part])
            best = score.argmax(dim=1, keepdim=True)
            rows = torch.arange(len(best), device=best.device)[:, None]
            token = best[:, 0].cpu().numpy().astype(np.int8)
            masks = self._masks(image, low_res[rows, best], score[rows, best], token)
            decoded += [masks.rows(row, row + 1) for row in range(len(masks))]
        return decoded

    def _batches(self, prompts: int) -> list[slice]:
        size = 1 if self._options.fast is None else self._options.decode_batch
        return [slice(start, start + size) for start in range(0, prompts, size)]

    def _decode(
        self, image: EncodedImage, point_xy: NDArray[np.float64], box_xyxy: NDArray[np.float32] | None
    ) -> tuple[Tensor, Tensor]:
        """(B, 4, h, w) low-resolution logits and (B, 4) predicted IoUs of B prompts, all mask tokens."""
        device = self._sam.device
        coords = self._transform.apply_coords(point_xy[:, None], image.original_size)
        labels = torch.ones((len(coords), 1), dtype=torch.int, device=device)
        points = (torch.as_tensor(coords, dtype=torch.float, device=device), labels)
        boxes = None
        if box_xyxy is not None:
            inclusive = box_xyxy.astype(np.float64) - (0, 0, 1, 1)  # SAM's boxes end in the last pixel, ours after it
            scaled = self._transform.apply_boxes(inclusive, image.original_size)
            boxes = torch.as_tensor(scaled, dtype=torch.float, device=device)
        return self._decoder.decode(image.features, image.position_code, points, boxes, image.side)

    def _masks(self, image: EncodedImage, low_res: Tensor, score: Tensor, token: NDArray[np.int8]) -> DecodedMasks:
        """(B, T, h, w) logits and (B, T) scores to B * T masks in original resolution."""
        logits = low_res.flatten(0, 1)
        masks = self._enlarger.enlarge(logits, score.flatten(), token, (image.input_size, image.original_size))
        threshold, side = self._sam.mask_threshold, self._sam.image_encoder.img_size
        if self._options.features:
            feature = pooled_features(image.features, logits, threshold, image.input_size, side)
            masks = replace(masks, figures=replace(masks.figures, feature=feature))
        if self._options.innermost:
            points = innermost_points(logits, threshold, image.input_size, image.original_size, side)
            masks = replace(masks, innermost_xy=points)
        return masks


def load_sam(model: str, path: Path, device: torch.device, options: SamOptions = EXACT) -> SamPrompter:
    """SAM with the weights of `path`, unmodified, in evaluation mode.

    Args:
        model: ``tiny``, ``vit_b``, ``vit_l`` or ``vit_h``.
    Raises: UserError if the file is missing, truncated, holds code, or holds another architecture.
    """
    state = unwrapped(load_tensors(path))
    sam = build_tiny_sam() if model == "tiny" else sam_model_registry[model]()
    _check_architecture(model, sam.state_dict(), state, path)
    sam.load_state_dict(state)
    return SamPrompter(sam.eval().requires_grad_(False).to(device), options)


def _check_architecture(model: str, expected: dict[str, Tensor], state: dict[str, Tensor], path: Path) -> None:
    hint = f"Give the checkpoint of {model}, or another --sam"
    there = state.get(_WIDTH_KEY)
    name = _WIDTHS.get(there.shape[-1]) if isinstance(there, Tensor) and there.ndim == 4 else None
    if name is not None and name != model:
        raise UserError(path, _WIDTH_KEY, name, f"so this is the network {name}, not {model}", hint)
    for key in [*expected, *state]:
        if key not in state:
            raise UserError(path, key, "missing", f"so these are not the weights of {model}", hint)
        if key not in expected:
            raise UserError(path, key, "unknown", f"so these are not the weights of {model}", hint)
        if not isinstance(state[key], Tensor) or state[key].shape != expected[key].shape:
            shape = tuple(getattr(state[key], "shape", ()))
            raise UserError(path, key, shape, f"but {model} has the shape {tuple(expected[key].shape)}", hint)
        if not torch.isfinite(state[key]).all():
            raise UserError(path, key, "NaN or infinity", "so the weights are damaged", hint)
