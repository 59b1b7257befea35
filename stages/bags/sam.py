"""The Segment Anything network behind four plain functions; what `SamPredictor` computes, bit for bit in float32.

H, W: original image; M masks. Points and boxes are in original-image pixels. A point goes to SAM as it is: SAM takes
coordinates as pixel indices and moves them to the pixel's centre itself, after scaling.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from segment_anything import sam_model_registry
from segment_anything.modeling import Sam
from segment_anything.utils.transforms import ResizeLongestSide
from torch import Tensor

from data.errors import UserError
from stages.bags.tiny_sam import build_tiny_sam
from stages.checkpoint import load_tensors

STABILITY_OFFSET = 1.0
_PIXELS_AT_ONCE = 4_000_000  # masks are enlarged in chunks of about this many pixels, so memory follows the image
_WIDTH_KEY = "image_encoder.pos_embed"
_WIDTHS = {768: "vit_b", 1024: "vit_l", 1280: "vit_h", 128: "tiny"}


@dataclass(frozen=True, slots=True)
class EncodedImage:
    """An image as SAM's decoder sees it; sizes are (height, width), before and after scaling to SAM's long side."""

    features: Tensor
    position_code: Tensor
    original_size: tuple[int, int]
    input_size: tuple[int, int]


@dataclass(frozen=True, slots=True)
class DecodedMasks:
    """M masks: (M, H, W) bool, and per mask SAM's predicted IoU, its stability, and the mask token that made it."""

    masks: NDArray[np.bool_]
    score: NDArray[np.float32]
    stability: NDArray[np.float32]
    token: NDArray[np.int8]


class SamPrompter:
    """A SAM that is asked for masks: first `encode_image`, then any number of prompts on what it returned."""

    def __init__(self, sam: Sam) -> None:
        self._sam = sam
        self._transform = ResizeLongestSide(sam.image_encoder.img_size)

    @torch.inference_mode()
    def encode_image(self, image: NDArray[np.uint8]) -> EncodedImage:
        """(H, W, 3) uint8 RGB to its embedding."""
        scaled = self._transform.apply_image(image)
        pixels = torch.as_tensor(scaled, device=self._sam.device).permute(2, 0, 1).contiguous()[None]
        features = self._sam.image_encoder(self._sam.preprocess(pixels))
        position_code = self._sam.prompt_encoder.get_dense_pe()
        height, width = image.shape[:2]
        return EncodedImage(features, position_code, (height, width), (pixels.shape[2], pixels.shape[3]))

    @torch.inference_mode()
    def point_masks(self, image: EncodedImage, point_xy: tuple[float, float]) -> DecodedMasks:
        """SAM's three multimask tokens (1, 2, 3) for one point.

        Points are decoded one by one: several at once change the last bits of the logits, and a bag would depend on
        the other points of its image.
        """
        low_res, score = self._decode(image, self._point_prompts(image, point_xy, 1), None)
        return self._enlarge(image, low_res[0, 1:], score[0, 1:], np.arange(1, 4, dtype=np.int8))

    @torch.inference_mode()
    def box_masks(
        self, image: EncodedImage, point_xy: tuple[float, float], box_xyxy: NDArray[np.float32]
    ) -> DecodedMasks:
        """The best of SAM's four tokens, by its own score, for the point together with each of M boxes.

        Args:
            box_xyxy: (M, 4) float32, right and bottom exclusive.
        """
        inclusive = box_xyxy.astype(np.float64) - (0, 0, 1, 1)  # SAM's boxes end in the last pixel, ours after it
        boxes = self._transform.apply_boxes(inclusive, image.original_size)
        prompts = torch.as_tensor(boxes, dtype=torch.float, device=self._sam.device)
        low_res, score = self._decode(image, self._point_prompts(image, point_xy, len(boxes)), prompts)
        best = score.argmax(dim=1)
        rows = torch.arange(len(boxes), device=best.device)
        return self._enlarge(image, low_res[rows, best], score[rows, best], best.cpu().numpy().astype(np.int8))

    def _point_prompts(self, image: EncodedImage, point_xy: tuple[float, float], count: int) -> tuple[Tensor, Tensor]:
        """The point `count` times: (count, 1, 2) coordinates in SAM's input and (count, 1) foreground labels."""
        coords = self._transform.apply_coords(np.array([[point_xy]]), image.original_size).repeat(count, axis=0)
        labels = torch.ones((count, 1), dtype=torch.int, device=self._sam.device)
        return torch.as_tensor(coords, dtype=torch.float, device=self._sam.device), labels

    def _decode(
        self, image: EncodedImage, points: tuple[Tensor, Tensor], boxes: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Low-resolution logits (B, 4, h, w) and predicted IoUs (B, 4) of B prompts, all mask tokens."""
        sparse, dense = self._sam.prompt_encoder(points=points, boxes=boxes, masks=None)
        low_res, score = self._sam.mask_decoder.predict_masks(
            image_embeddings=image.features,
            image_pe=image.position_code,
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
        )
        return low_res, score

    def _enlarge(self, image: EncodedImage, low_res: Tensor, score: Tensor, token: NDArray[np.int8]) -> DecodedMasks:
        """(M, h, w) logits to masks in original resolution, a few at a time."""
        height, width = image.original_size
        chunk = max(1, _PIXELS_AT_ONCE // max(height * width, self._sam.image_encoder.img_size**2))
        threshold = self._sam.mask_threshold
        masks, stability = [], []
        for part in low_res.split(chunk):
            logits = self._sam.postprocess_masks(part[None], image.input_size, image.original_size)[0]
            masks.append((logits > threshold).cpu().numpy())
            stability.append(_stability(logits, threshold).cpu().numpy())
        return DecodedMasks(np.concatenate(masks), score.cpu().numpy(), np.concatenate(stability), token)


def load_sam(model: str, path: Path, device: torch.device) -> SamPrompter:
    """SAM with the weights of `path`, unmodified, in evaluation mode.

    Args:
        model: ``tiny``, ``vit_b``, ``vit_l`` or ``vit_h``.
    Raises: UserError if the file is missing, truncated, holds code, or holds another architecture.
    """
    state = load_tensors(path)
    sam = build_tiny_sam() if model == "tiny" else sam_model_registry[model]()
    _check_architecture(model, sam.state_dict(), state, path)
    sam.load_state_dict(state)
    return SamPrompter(sam.eval().requires_grad_(False).to(device))


def _stability(logits: Tensor, threshold: float) -> Tensor:
    """(M,) IoU of the masks above a raised and a lowered threshold; 0 where both are empty."""
    inner = (logits > threshold + STABILITY_OFFSET).sum(dim=(1, 2))
    outer = (logits > threshold - STABILITY_OFFSET).sum(dim=(1, 2))
    return inner / outer.clamp(min=1)


def _check_architecture(model: str, own: dict[str, Tensor], state: dict[str, Tensor], path: Path) -> None:
    mend = f"Give the checkpoint of {model}, or another --sam"
    there = state.get(_WIDTH_KEY)
    name = _WIDTHS.get(there.shape[-1]) if isinstance(there, Tensor) and there.ndim == 4 else None
    if name is not None and name != model:
        raise UserError(path, _WIDTH_KEY, name, f"so this is the network {name}, not {model}", mend)
    for key in [*own, *state]:
        if key not in state:
            raise UserError(path, key, "missing", f"so these are not the weights of {model}", mend)
        if key not in own:
            raise UserError(path, key, "unknown", f"so these are not the weights of {model}", mend)
        if not isinstance(state[key], Tensor) or state[key].shape != own[key].shape:
            shape = tuple(getattr(state[key], "shape", ()))
            raise UserError(path, key, shape, f"but {model} has the shape {tuple(own[key].shape)}", mend)
        if not torch.isfinite(state[key]).all():
            raise UserError(path, key, "NaN or infinity", "so the weights are damaged", mend)
