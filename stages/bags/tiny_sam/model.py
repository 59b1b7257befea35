"""The tiny SAM of the demo: the real `segment_anything` classes at 256 px, 1.9 M parameters."""

import torch
from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer
from torch import Tensor, nn

IMAGE_SIZE = 256
_STRIDE = 8
_WIDTH = 128
_CHANNELS = 96


def build_tiny_sam() -> Sam:
    """An untrained tiny SAM; `SamPredictor` runs on it unchanged.

    What differs from the published sizes: patches of 8 px, so that masks are decoded at 128x128, and a convolutional
    stem in place of the linear patch embedding, because convolutions learn from far fewer images.
    """
    grid = IMAGE_SIZE // _STRIDE
    encoder = ImageEncoderViT(
        img_size=IMAGE_SIZE,
        patch_size=_STRIDE,
        embed_dim=_WIDTH,
        depth=4,
        num_heads=4,
        mlp_ratio=2,
        out_chans=_CHANNELS,
        qkv_bias=True,
        use_abs_pos=True,
        use_rel_pos=False,
        window_size=8,
        global_attn_indexes=(1, 3),
    )
    encoder.patch_embed = ConvStem(_WIDTH)
    return Sam(
        image_encoder=encoder,
        prompt_encoder=PromptEncoder(
            embed_dim=_CHANNELS,
            image_embedding_size=(grid, grid),
            input_image_size=(IMAGE_SIZE, IMAGE_SIZE),
            mask_in_chans=16,
        ),
        mask_decoder=MaskDecoder(
            transformer_dim=_CHANNELS,
            transformer=TwoWayTransformer(
                depth=2, embedding_dim=_CHANNELS, num_heads=4, mlp_dim=256, attention_downsample_rate=2
            ),
            num_multimask_outputs=3,
            iou_head_depth=3,
            iou_head_hidden_dim=128,
        ),
    )


class ConvStem(nn.Module):
    """(B, 3, H, W) image to (B, H/8, W/8, `width`) tokens, the layout that `ImageEncoderViT` expects of its patches."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *_downsample(3, 32), *_downsample(32, 64), ResidualBlock(64), *_downsample(64, width),
            ResidualBlock(width), ResidualBlock(width),
        )  # fmt: skip

    def forward(self, image: Tensor) -> Tensor:
        tokens: Tensor = self.layers(image).permute(0, 2, 3, 1)
        return tokens


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with GroupNorm around an identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.GroupNorm(8, channels), nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.GroupNorm(8, channels),
        )  # fmt: skip

    def forward(self, features: Tensor) -> Tensor:
        return torch.relu(features + self.layers(features))


def _downsample(channels: int, out_channels: int) -> list[nn.Module]:
    convolution = nn.Conv2d(channels, out_channels, 3, stride=2, padding=1, bias=False)
    return [convolution, nn.GroupNorm(8, out_channels), nn.ReLU(inplace=True)]
