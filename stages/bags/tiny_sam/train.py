"""Train the tiny SAM on rendered scenes: `make tiny-sam`, or `python -m sapnet_pipe.stages.bags.tiny_sam.train --help`.

Masks: binary cross-entropy plus Dice on the 128x128 logits of the tokens that owe one. Predicted IoU: squared error to
the IoU with the level that was meant. A dense head on the embedding (edges, foreground, centre offsets) speeds up the
encoder and is thrown away. The saved weights are an exponential moving average, in half precision.
"""

import copy
import math
import time
from pathlib import Path
from typing import Annotated

import torch
import torch.nn.functional as F
import typer
from segment_anything.modeling import Sam
from torch import Tensor, nn
from torch.utils.data import DataLoader

from sapnet_pipe.data.files import atomic_path
from sapnet_pipe.data.progress import progress_bar
from sapnet_pipe.stages.bags.tiny_sam.model import build_tiny_sam
from sapnet_pipe.stages.bags.tiny_sam.prompts import PromptBatch, PromptDataset
from sapnet_pipe.stages.training.checkpoint import load_tensors

_IMAGES_PER_STEP = 4
_PROMPTS_PER_IMAGE = 8
_WARMUP_STEPS = 100
_EMA_DECAY = 0.998


class DenseHead(nn.Module):
    """(B, C, 32, 32) embedding to (B, 5, 128, 128) maps, see `PromptBatch.dense`."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.project = nn.Conv2d(channels, 5 * 16, 1)

    def forward(self, embedding: Tensor) -> Tensor:
        return F.pixel_shuffle(self.project(embedding), 4)


def decode(sam: Sam, embedding: Tensor, prompts: PromptBatch) -> tuple[Tensor, Tensor]:
    """Logits (P, 4, 128, 128) and predicted IoU (P, 4) of all four tokens, from one (1, C, 32, 32) embedding."""
    point = torch.from_numpy(prompts.point_xy)[:, None]
    box = None if prompts.box_xyxy is None else torch.from_numpy(prompts.box_xyxy)
    sparse, dense = sam.prompt_encoder(points=(point, torch.ones(point.shape[:2])), boxes=box, masks=None)
    logits, iou = sam.mask_decoder.predict_masks(
        image_embeddings=embedding,
        image_pe=sam.prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
    )
    return logits, iou


def prompt_loss(logits: Tensor, iou: Tensor, prompts: PromptBatch) -> dict[str, Tensor]:
    """Losses of one image's prompts; `best` is the mean best IoU over the tokens against the meant level."""
    target, owed = torch.from_numpy(prompts.target), torch.from_numpy(prompts.owed)
    rows = torch.arange(len(target))
    meant = target[rows, torch.from_numpy(prompts.meant)]
    single = mask_loss(logits[:, 0], meant).mean()
    multi = mask_loss(logits[:, 1:][owed], target[owed]).mean()
    with torch.no_grad():
        actual = hard_iou(logits, meant[:, None])
    return {
        "mask": multi + 0.3 * single,
        "iou": F.mse_loss(iou, actual),
        "best": actual[:, 1:].amax(dim=1).mean(),
    }


def mask_loss(logits: Tensor, target: Tensor) -> Tensor:
    """(N,) cross-entropy (times 5) plus Dice of (N, H, W) logits to soft targets."""
    cross_entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none").mean(dim=(-2, -1))
    probability = logits.sigmoid()
    overlap = (probability * target).sum(dim=(-2, -1))
    dice = 1 - (2 * overlap + 1) / (probability.sum(dim=(-2, -1)) + target.sum(dim=(-2, -1)) + 1)
    return 5 * cross_entropy + dice


def hard_iou(logits: Tensor, target: Tensor) -> Tensor:
    """IoU of thresholded masks, any leading dimensions."""
    predicted, truth = logits > 0, target > 0.5
    union = (predicted | truth).sum(dim=(-2, -1))
    return (predicted & truth).sum(dim=(-2, -1)) / union.clamp(min=1)


def dense_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy on the three binary maps, L1 on the offsets inside the foreground."""
    binary = F.binary_cross_entropy_with_logits(predicted[:, :3], target[:, :3])
    foreground = target[:, :1]
    offset = ((predicted[:, 3:] - target[:, 3:]).abs() * foreground).sum() / (2 * foreground.sum()).clamp(min=1)
    return binary + 0.5 * offset


def step_loss(sam: Sam, head: DenseHead, batch: list[PromptBatch]) -> dict[str, Tensor]:
    """All losses of a batch of images, each with its own prompts; `total` is what is minimised."""
    images = torch.stack([torch.from_numpy(item.image) for item in batch]).permute(0, 3, 1, 2).float()
    images = ((images - sam.pixel_mean) / sam.pixel_std).contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        embedding = sam.image_encoder(images)
    embedding = embedding.float()
    parts = [prompt_loss(*decode(sam, embedding[i : i + 1], item), item) for i, item in enumerate(batch)]
    losses = {name: torch.stack([part[name] for part in parts]).mean() for name in parts[0]}
    losses["dense"] = dense_loss(head(embedding), torch.stack([torch.from_numpy(item.dense) for item in batch]))
    losses["total"] = losses["mask"] + losses["iou"] + 0.5 * losses["dense"]
    return losses


@torch.no_grad()
def tie_attention(sam: Sam) -> None:
    """Start every cross-attention with equal, enlarged query and key projections.

    Prompt tokens and image share one position code, so a point attends to its own surroundings from the first step;
    from the default initialisation the decoder needs some hundred steps to find that out.
    """
    transformer = sam.mask_decoder.transformer
    crossings = [transformer.final_attn_token_to_image]
    for layer in transformer.layers:
        crossings += [layer.cross_attn_token_to_image, layer.cross_attn_image_to_token]
    for attention in crossings:
        attention.q_proj.weight.mul_(3)
        attention.k_proj.weight.copy_(attention.q_proj.weight)
        attention.q_proj.bias.zero_()
        attention.k_proj.bias.zero_()


def learning_rate(step: int, steps: int, peak: float) -> float:
    """Linear warm-up, then a cosine down to 1 % of the peak."""
    if step < _WARMUP_STEPS:
        return peak * (step + 1) / _WARMUP_STEPS
    progress = (step - _WARMUP_STEPS) / max(steps - _WARMUP_STEPS, 1)
    return peak * (0.01 + 0.99 * (1 + math.cos(math.pi * progress)) / 2)


def train(
    steps: int,
    out: Path,
    *,
    peak_lr: float = 1e-3,
    seed: int = 0,
    start_from: Path | None = None,
    only_iou: bool = False,
    workers: int = 1,
    save_every: int = 250,
    quiet: bool = False,
) -> None:
    """Train for `steps` steps of 4 images x 8 prompts and save the averaged weights to `out`.

    Args:
        start_from: Weights of an earlier training; else from scratch. Scenes are drawn from `seed` on.
        only_iou: Train only the layers that predict the IoU: SAM's own score changes, the masks stay bit for bit.
    """
    torch.manual_seed(seed)
    sam = build_tiny_sam().to(memory_format=torch.channels_last)
    if start_from is None:
        tie_attention(sam)
    else:
        sam.load_state_dict(load_tensors(start_from))
    average = copy.deepcopy(sam)
    head = DenseHead(sam.prompt_encoder.embed_dim)
    if only_iou:
        sam.requires_grad_(False).mask_decoder.iou_prediction_head.requires_grad_(True)
        head.requires_grad_(False)
    parameters = [p for p in (*sam.parameters(), *head.parameters()) if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=peak_lr, weight_decay=0.02, betas=(0.9, 0.98))
    dataset = PromptDataset(seed * 1_000_000, steps * _IMAGES_PER_STEP, _PROMPTS_PER_IMAGE)
    loader = DataLoader(dataset, batch_size=_IMAGES_PER_STEP, num_workers=workers, collate_fn=list)
    started = time.monotonic()
    running: dict[str, float] = {}
    for step, batch in enumerate(bar := progress_bar(loader, total=steps, mininterval=10, quiet=quiet)):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps, peak_lr)
        losses = step_loss(sam, head, batch)
        optimizer.zero_grad(set_to_none=True)
        losses["total"].backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        _update_average(average, sam, min(_EMA_DECAY, (step + 1) / (step + 10)))
        for name, loss in losses.items():
            running[name] = 0.98 * running.get(name, loss.item()) + 0.02 * loss.item()
        bar.set_postfix({name: f"{value:.3f}" for name, value in running.items()}, refresh=False)
        if (step + 1) % save_every == 0 or step + 1 == steps:
            save_weights(average, out)
    if not quiet:
        typer.echo(f"{out}: {steps} steps in {time.monotonic() - started:.0f} s, last losses {running}")


@torch.no_grad()
def _update_average(average: Sam, sam: Sam, decay: float) -> None:
    for kept, current in zip(average.state_dict().values(), sam.state_dict().values(), strict=True):
        kept.lerp_(current, 1 - decay)


def save_weights(sam: Sam, path: Path) -> None:
    """Save the state dict in half precision, atomically."""
    state = {name: value.half().contiguous() for name, value in sam.state_dict().items()}
    with atomic_path(path) as temporary:
        torch.save(state, temporary)


def main(
    out: Annotated[Path, typer.Option(help="Where the weights go.")],
    steps: Annotated[int, typer.Option(min=1, help="Steps of 4 scenes x 8 prompts.")] = 6000,
    peak_lr: Annotated[float, typer.Option(help="Peak learning rate.")] = 1e-3,
    start_from: Annotated[Path | None, typer.Option(help="Weights to go on from.")] = None,
    only_iou: Annotated[bool, typer.Option(help="Train only the predicted IoU; the masks stay as they are.")] = False,
    seed: Annotated[int, typer.Option(min=0, max=9, help="Seed of the initial weights and of the scenes.")] = 0,
) -> None:
    """Train the tiny SAM on rendered scenes."""
    train(steps, out, peak_lr=peak_lr, start_from=start_from, only_iou=only_iou, seed=seed)


if __name__ == "__main__":
    typer.run(main)
