"""The published SOLOv2 R-50 as the golden notes list it."""

# Stages of the published R-50: blocks, channels inside a block, channels it gives.
BLOCKS = {"res2": (3, 64, 256), "res3": (4, 128, 512), "res4": (6, 256, 1024), "res5": (3, 512, 2048)}


def _norm(name: str, channels: int, frozen: bool = True) -> dict[str, tuple[int, ...]]:
    tensors = ("weight", "bias", "running_mean", "running_var") if frozen else ("weight", "bias")
    return {f"{name}.{tensor}": (channels,) for tensor in tensors}


def published_r50() -> dict[str, tuple[int, ...]]:
    """Names and shapes of AdelaiDet's SOLOv2 R-50, as the golden notes list them."""
    keys: dict[str, tuple[int, ...]] = {}
    bottom = "backbone.bottom_up"
    keys |= {f"{bottom}.stem.conv1.weight": (64, 3, 7, 7)} | _norm(f"{bottom}.stem.conv1.norm", 64)
    inputs = 64
    for stage, (depth, middle, outputs) in BLOCKS.items():
        for block in range(depth):
            name = f"{bottom}.{stage}.{block}"
            layers = {
                "conv1": (middle, inputs, 1, 1),
                "conv2": (middle, middle, 3, 3),
                "conv3": (outputs, middle, 1, 1),
            }
            if block == 0:
                layers["shortcut"] = (outputs, inputs, 1, 1)
            for layer, shape in layers.items():
                keys |= {f"{name}.{layer}.weight": shape} | _norm(f"{name}.{layer}.norm", shape[0])
            inputs = outputs
    for level, channels in zip((2, 3, 4, 5), (256, 512, 1024, 2048), strict=True):
        keys |= {f"backbone.fpn_lateral{level}.weight": (256, channels, 1, 1)}
        keys |= {f"backbone.fpn_output{level}.weight": (256, 256, 3, 3)}
        keys |= {f"backbone.fpn_{kind}{level}.bias": (256,) for kind in ("lateral", "output")}
    for tower, first in (("cate_tower", 256), ("kernel_tower", 258)):
        for conv in range(4):
            keys[f"ins_head.{tower}.{3 * conv}.weight"] = (512, first if conv == 0 else 512, 3, 3)
            keys |= _norm(f"ins_head.{tower}.{3 * conv + 1}", 512, frozen=False)
    keys |= {"ins_head.cate_pred.weight": (80, 512, 3, 3), "ins_head.cate_pred.bias": (80,)}
    keys |= {"ins_head.kernel_pred.weight": (256, 512, 3, 3), "ins_head.kernel_pred.bias": (256,)}
    for level in range(4):
        for step in range(max(1, level)):
            name = f"mask_head.convs_all_levels.{level}.conv{step}"
            keys[f"{name}.0.weight"] = (128, (128 if step else 258 if level == 3 else 256), 3, 3)
            keys |= _norm(f"{name}.1", 128, frozen=False)
    keys["mask_head.conv_pred.0.weight"] = (256, 128, 1, 1)
    return keys | _norm("mask_head.conv_pred.1", 256, frozen=False)
