"""SAM's prompt encoder and mask decoder made faster, bit for bit.

Two thirds of the time of a prompt go to the image side of the decoder. In its first layer that side is the same for
every prompt without a mask, so its projections are computed once per image. And oneDNN's transposed convolutions are
several times faster for weights that lie in memory with the channels last. The modules and the weights' values are
SAM's own: only their `forward` is replaced, and only while a prompt is decoded.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sapnet_pipe.stages.bags.sam.exact_encoder import Forward, replaced_forwards


@dataclass(slots=True)
class ImageSide:
    """What all prompts on one image share; filled by the first of them."""

    projected: dict[nn.Module, Tensor] = field(default_factory=dict)
    tokens: tuple[Tensor, Tensor] | None = None


class PromptDecoder:
    """The prompt encoder and mask decoder of one SAM."""

    def __init__(self, sam: Any) -> None:
        """Args: sam: A `segment_anything.modeling.Sam` in evaluation mode."""
        self._prompt_encoder, self._decoder = sam.prompt_encoder, sam.mask_decoder
        first = self._decoder.transformer.layers[0]
        self._shared = (
            first.cross_attn_token_to_image.k_proj,
            first.cross_attn_token_to_image.v_proj,
            first.cross_attn_image_to_token.q_proj,
        )
        self._upscaling = _channels_last(self._decoder.output_upscaling) if sam.device.type == "cpu" else None

    @torch.inference_mode()
    def position_code(self) -> Tensor:
        """(1, C, h, w) code of the image's grid, the same for every image."""
        code: Tensor = self._prompt_encoder.get_dense_pe()
        return code

    def decode(
        self,
        features: Tensor,
        position_code: Tensor,
        points: tuple[Tensor, Tensor],
        boxes: Tensor | None,
        side: ImageSide,
    ) -> tuple[Tensor, Tensor]:
        """Decode B prompts on one image.

        Args:
            features, position_code: (1, C, h, w).
            points: (B, 1, 2) coordinates and (B, 1) labels; boxes: (B, 4) or None; in SAM's input frame.
            side: Of this image.
        Returns: (B, 4, 4h, 4w) logits and (B, 4) predicted IoUs of all mask tokens.
        """
        sparse, dense = self._prompt_encoder(points=points, boxes=boxes, masks=None)
        if side.tokens is not None:  # then they are not looked at, and copying one value per channel is cheaper
            features, position_code = features[..., :1, :1], position_code[..., :1, :1]
        with replaced_forwards(self._replacements(side)):
            low_res, score = self._decoder.predict_masks(
                image_embeddings=features,
                image_pe=position_code,
                sparse_prompt_embeddings=sparse,
                dense_prompt_embeddings=dense,
            )
        return low_res, score

    def _replacements(self, side: ImageSide) -> dict[nn.Module, Forward]:
        transformer = self._decoder.transformer
        forwards: dict[nn.Module, Forward] = {linear: _once(linear, side) for linear in self._shared}
        forwards[transformer] = _tokens_last(transformer, side)
        if self._upscaling is not None:
            forwards[self._decoder.output_upscaling] = self._upscaling
        return forwards


def _once(linear: nn.Module, side: ImageSide) -> Forward:
    """`linear` for the first prompt, its result again for all others: (B, N, C), every row of B the same."""
    forward = linear.forward

    def remembered(tokens: Tensor) -> Tensor:
        if linear not in side.projected:
            side.projected[linear] = forward(tokens[:1])
        return side.projected[linear].expand(len(tokens), -1, -1)

    return remembered


def _tokens_last(transformer: nn.Module, side: ImageSide) -> Forward:
    """The transformer on image tokens that lie one after another, which its additions and norms read faster."""
    forward = transformer.forward

    def laid_out(image: Tensor, position_code: Tensor, prompts: Tensor) -> Any:
        if side.tokens is not None:
            shared = (tokens.expand(len(image), -1, -1, -1) for tokens in side.tokens)
            return forward(*shared, prompts)
        # The first prompt keeps SAM's own layout: what it leaves behind must not depend on another.
        copies = (part[:1].contiguous(memory_format=torch.channels_last) for part in (image, position_code))
        side.tokens = (next(copies), next(copies))
        return forward(image, position_code, prompts)

    return laid_out


def _channels_last(upscaling: nn.Sequential) -> Forward:
    """`upscaling` with other layouts in between.

    A norm adds over the channels and gets them in SAM's layout, so that it adds in SAM's order; GELU, on one value at
    a time, gets its input in the order in which it lies in memory.
    """
    weights = {
        layer: layer.weight.detach().contiguous(memory_format=torch.channels_last)
        for layer in upscaling
        if isinstance(layer, nn.ConvTranspose2d)
    }

    def upscale(features: Tensor) -> Tensor:
        for layer in upscaling:
            if isinstance(layer, nn.ConvTranspose2d):
                features = F.conv_transpose2d(features, weights[layer], layer.bias, layer.stride)
            elif isinstance(layer, nn.GELU):
                dense = features.permute(0, 2, 3, 1)
                features = layer(dense).permute(0, 3, 1, 2) if dense.is_contiguous() else layer(features)
            else:
                features = _norm(layer, features.contiguous())
        return features

    return upscale


def _norm(norm: Any, features: Tensor) -> Tensor:
    """SAM's `LayerNorm2d`, its steps in its order but in place: (B, C, h, w) -> (B, C, h, w)."""
    centred = features - features.mean(1, keepdim=True)
    variance = centred.pow(2).mean(1, keepdim=True)
    centred /= torch.sqrt(variance + norm.eps)
    return centred.mul_(norm.weight[:, None, None]).add_(norm.bias[:, None, None])
