"""Length, optimiser and learning-rate schedule of a training: settings and the pure functions on them."""

import math
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, Field, field_validator, model_validator


class TrainConfig(BaseModel, frozen=True, extra="forbid"):
    """What the training loop needs to know; both trainings (selector and segmenter) share it."""

    max_iterations: int = Field(
        default=0, ge=0, le=1_000_000_000, description="Optimiser steps; 0 takes the number of epochs instead."
    )
    epochs: float = Field(
        default=12.0, gt=0, le=1e6, description="Passes over the images, used when max_iterations is 0."
    )
    min_iterations: int = Field(
        default=0,
        ge=0,
        le=1_000_000_000,
        description="Steps at the least, where the epochs of few images are fewer; 0 sets no limit.",
    )
    batch_size: int = Field(
        default=4, gt=0, le=65_536, description="Images per optimiser step, of all processes together."
    )
    lr: float = Field(
        default=0.01,
        gt=0,
        le=1000,
        description="Peak learning rate; where it is not set, base_lr * batch_size / base_batch.",
    )
    base_lr: float = Field(
        default=0.01, gt=0, le=1000, description="Peak learning rate at a batch of base_batch images."
    )
    base_batch: int = Field(default=4, gt=0, le=65_536, description="Batch that base_lr is meant for.")
    optimizer: Literal["sgd", "adamw"] = Field(default="sgd", description="SGD with momentum, or AdamW.")
    momentum: float = Field(default=0.9, ge=0, lt=1, description="Momentum of SGD.")
    weight_decay: float = Field(default=1e-4, ge=0, le=1000, description="Weight decay.")
    decay: Literal["weights", "biases", "all"] = Field(
        default="weights",
        description="What is decayed: the weights of convolutions and linear layers alone, their biases too (as "
        "Detectron2 does), or norms as well (as MMDetection does).",
    )
    warmup_iterations: int = Field(
        default=500, ge=0, le=1_000_000_000, description="Steps over which the learning rate rises linearly."
    )
    warmup_factor: float = Field(default=0.001, ge=0, le=1, description="Share of the learning rate at the first step.")
    scheduler: Literal["step", "cosine"] = Field(
        default="step", description="Fall at milestones, or a half cosine to 0."
    )
    milestones: tuple[float, ...] = Field(
        default=(8 / 12, 10 / 12),
        description="Where the learning rate falls: below 1 shares of the length, else iterations.",
    )
    gamma: float = Field(default=0.1, gt=0, le=1, description="Factor on the learning rate at each milestone.")
    clip_norm: float = Field(
        default=35.0, ge=0, le=1e12, description="Gradient norm above which gradients are scaled down; 0 never."
    )
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = Field(
        default="32-true", description="Arithmetic of the network."
    )
    checkpoint_every: int = Field(default=500, gt=0, le=1_000_000_000, description="Steps between checkpoints.")
    checkpoint_minutes: float = Field(
        default=5.0,
        ge=0,
        le=1e6,
        description="Minutes between checkpoints at the most; 0 counts steps only.",
    )
    log_every: int = Field(
        default=20, gt=0, le=1_000_000_000, description="Steps between records of metrics.jsonl, each a mean over them."
    )
    workers: int = Field(
        default=0, ge=0, le=1024, description="Processes that prepare batches; 0 prepares them in between."
    )

    @field_validator("milestones")
    @classmethod
    def _within_any_length(cls, milestones: tuple[float, ...]) -> tuple[float, ...]:
        for milestone in milestones:
            if not 0 <= milestone <= 1e9:
                raise ValueError(f"{milestone:g} is neither a share of the length nor an iteration up to 1e9")
        return milestones

    @model_validator(mode="before")
    @classmethod
    def _lr_follows_the_batch(cls, values: Any) -> Any:
        if not isinstance(values, Mapping) or "lr" in values:
            return values
        names = ("base_lr", "batch_size", "base_batch")
        base_lr, batch, base_batch = (values.get(name, cls.model_fields[name].default) for name in names)
        if not all(type(number) in (int, float) and 0 < number <= 1e9 for number in (base_lr, batch, base_batch)):
            return values  # the checks of these fields say what is wrong
        return {**values, "lr": scaled_lr(base_lr, batch, base_batch)}


def scaled_lr(base_lr: float, batch: int, base_batch: int) -> float:
    """Linear scaling of a learning rate to another batch size."""
    return base_lr * batch / base_batch


def lr_line(config: TrainConfig) -> str:
    """Where the learning rate comes from, for the log: ``lr 0.00375 = 0.0075 x 8/16``."""
    scaled = scaled_lr(config.base_lr, config.batch_size, config.base_batch)
    product = f"{config.base_lr:g} x {config.batch_size}/{config.base_batch}"
    if math.isclose(config.lr, scaled, rel_tol=1e-9):
        return f"lr {config.lr:g} = {product} (it follows train.batch_size)."
    return f"lr {config.lr:g} as train.lr sets it; {product} = {scaled:g} would follow train.batch_size."


def resolve_length(config: TrainConfig, num_images: int) -> TrainConfig:
    """Turn epochs into `max_iterations` (one epoch is every image once); a set `max_iterations` wins.

    Few images have short epochs: `min_iterations` lengthens them, and the warm-up takes a quarter of them at the most.
    """
    if config.max_iterations:
        return config
    steps = max(1, config.min_iterations, math.ceil(config.epochs * num_images / config.batch_size))
    warmup = min(config.warmup_iterations, steps // 4)
    return config.model_copy(update={"max_iterations": steps, "warmup_iterations": warmup})


def lr_at(config: TrainConfig, iteration: int) -> float:
    """Learning rate of step `iteration` (0 is the first): linear warm-up times the schedule."""
    warmup = 1.0
    if iteration < config.warmup_iterations:
        warmup = config.warmup_factor + (1 - config.warmup_factor) * iteration / config.warmup_iterations
    if config.scheduler == "cosine":
        length = max(1, config.max_iterations - config.warmup_iterations)
        done = min(1.0, max(0, iteration - config.warmup_iterations) / length)
        return config.lr * warmup * 0.5 * (1 + math.cos(math.pi * done))
    steps = [m * config.max_iterations if m < 1 else m for m in config.milestones]
    return config.lr * warmup * config.gamma ** sum(iteration >= step for step in steps)
