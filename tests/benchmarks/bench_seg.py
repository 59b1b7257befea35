"""How fast stage three is beside a plain implementation of the same rules: `make bench-seg`.

The plain side (`reference_solov2.py`) is held to the golden vectors and shares our backbone, layers and weights; each
pair is checked to agree before it is timed. Both sides take turns, now the one first and now the other, so that
whatever else the machine does hits both; the table shows medians, the last line is one JSON object of their ratios
(above 1: ours is faster).
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from sapnet_pipe.stages.segment.config import HeadConfig, SegmentBackboneConfig
from sapnet_pipe.stages.segment.network import build_solov2
from sapnet_pipe.stages.segment.solov2.inference import Decoding
from sapnet_pipe.stages.segment.solov2.losses import solov2_losses
from sapnet_pipe.stages.segment.solov2.matrix_nms import matrix_nms
from sapnet_pipe.stages.segment.solov2.targets import ImageTargets, build_targets
from sapnet_pipe.stages.training.devices import (
    limit_threads,
    train_layout,
)
from tests.stages.segment.solov2.golden_solov2 import decode
from tests.stages.segment.solov2.reference_solov2 import (
    GRIDS,
    RANGES,
    Outputs,
    PlainSOLOv2,
    plain_inference,
    plain_losses,
    plain_matrix_nms,
    plain_targets,
)

CLASSES = 80
# What the notes of the golden vectors measured of the public reference on their machine, one thread, in ms.
NOTES = {"targets_60": 3100, "matrix_nms_500": 465, "train_step": 9600, "inference": 3000}


class Pair(NamedTuple):
    """One line of the table: what is done, and the two ways to do it."""

    what: str
    plain: Callable[[], Any]
    ours: Callable[[], Any]


def main() -> None:
    """Print the table and the line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=0, help="Threads of torch; 0 takes the cores there are.")
    parser.add_argument("--rounds", type=int, default=7, help="Times that each side is timed.")
    parser.add_argument("--size", type=int, default=512, help="Side of the image of the training step.")
    parser.add_argument("--only", default="", help="Part of the name of what is to be timed.")
    options = parser.parse_args()
    limit_threads()
    if options.threads:
        torch.set_num_threads(options.threads)
    say = sys.stdout.write
    say(f"stage three, {torch.get_num_threads()} threads, torch {torch.__version__}; medians in ms\n")
    say(f"{'':<16}{'plain':>10}{'ours':>10}{'ratio':>8}  {'notes*':>8}\n")
    ratios = {}
    for name, make in _benches(options.size).items():
        if options.only in name:
            for pair in make():
                plain, ours = _medians(pair, options.rounds)
                ratios[name] = round(plain / ours, 3)
                say(f"{name:<16}{plain:>10.1f}{ours:>10.1f}{plain / ours:>8.2f}  {NOTES[name]:>8}  {pair.what}\n")
                sys.stdout.flush()
    say("* the public reference on the machine of the golden vectors' notes, one thread\n")
    say(json.dumps(ratios) + "\n")


def _medians(pair: Pair, rounds: int) -> tuple[float, float]:
    """Of both sides in ms; a turn before the first only warms up."""
    taken: list[tuple[float, float]] = []
    for turn in range(rounds + 1):
        order = (pair.plain, pair.ours) if turn % 2 else (pair.ours, pair.plain)
        times = [_milliseconds(function) for function in order]
        taken.append((times[0], times[1]) if turn % 2 else (times[1], times[0]))
    plain, ours = zip(*taken[1:], strict=True)
    return statistics.median(plain), statistics.median(ours)


def _milliseconds(function: Callable[[], Any]) -> float:
    began = time.perf_counter()
    function()
    return 1000 * (time.perf_counter() - began)


def _benches(size: int) -> dict[str, Callable[[], Iterator[Pair]]]:
    """What is timed by name; of several lines of one name the last is the one that counts."""
    return {
        "targets_60": lambda: iter([_targets(60, (800, 1333))]),
        "matrix_nms_500": lambda: iter([_matrix_nms(500, CLASSES), _matrix_nms(500, 1)]),
        "train_step": lambda: iter([_train_step(size)]),
        "inference": lambda: iter([_inference(512)]),
    }


class Objects(NamedTuple):
    """N ellipses: masks (N, H, W) uint8, their boxes (N, 4) and classes (N,)."""

    masks: Tensor
    boxes: Tensor
    classes: Tensor


def ellipses(count: int, height: int, width: int) -> Objects:
    """Objects of the sizes that COCO has, many small and a few large."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width]
    masks = np.zeros((count, height, width), np.uint8)
    for mask in masks:
        radii = min(height, width) * np.exp(rng.uniform(np.log(0.02), np.log(0.4), 2))
        center = rng.uniform(0.1, 0.9, 2) * (height, width)
        mask[((y - center[0]) / radii[0]) ** 2 + ((x - center[1]) / radii[1]) ** 2 <= 1] = 1
    rows, columns = masks.max(2).astype(bool), masks.max(1).astype(bool)
    ends = [(side.argmax(1), side.shape[1] - side[:, ::-1].argmax(1)) for side in (columns, rows)]
    boxes = np.stack([ends[0][0], ends[1][0], ends[0][1], ends[1][1]], 1).astype(np.float32)
    classes = torch.from_numpy(rng.integers(0, CLASSES, count))
    return Objects(torch.from_numpy(masks), torch.from_numpy(boxes), classes)


def _our_targets(objects: Objects, feat_size: tuple[int, int]) -> ImageTargets:
    return build_targets(
        objects.masks.numpy(), objects.classes.numpy(), feat_size=feat_size, num_grids=GRIDS, scale_ranges=RANGES,
        sigma=0.2, num_classes=CLASSES,
    )  # fmt: skip


def _targets(count: int, size: tuple[int, int]) -> Pair:
    objects, feat_size = ellipses(count, *size), (-(-size[0] // 32) * 8, -(-size[1] // 32) * 8)

    def plain() -> Any:
        return plain_targets(objects.boxes, objects.classes, objects.masks, feat_size, num_classes=CLASSES)

    levels, ours = plain(), _our_targets(objects, feat_size)
    _agree(torch.cat([level.cate.flatten() for level in levels]), ours.category)
    _agree(torch.cat([level.masks for level in levels]), ours.masks[ours.instance])
    what = f"{count} instances at {size[0]}x{size[1]}, {len(ours.cell)} cells"
    return Pair(what, plain, lambda: _our_targets(objects, feat_size))


def _matrix_nms(count: int, num_classes: int) -> Pair:
    """Masks of one class are the worst case: only those of the same class suppress each other."""
    masks = ellipses(count, 200, 334).masks.bool()
    generator = torch.Generator().manual_seed(0)
    classes = torch.randint(0, num_classes, (count,), generator=generator)
    scores = torch.rand(count, generator=generator).sort(descending=True).values
    flat = masks.flatten(1)
    _agree(plain_matrix_nms(masks, classes, scores), matrix_nms(flat, classes, scores))
    return Pair(
        f"{count} masks of 200x334, {num_classes} class{'es' if num_classes > 1 else ''}",
        lambda: plain_matrix_nms(masks, classes, scores),
        lambda: matrix_nms(flat, classes, scores),
    )


def _networks() -> tuple[Any, Any]:
    """Ours as the builtin engine has it, and the plain one; the same weights, not shared, since both are trained."""
    made = []
    for _ in range(2):
        torch.manual_seed(0)
        backbone = SegmentBackboneConfig(weights="none", norm="frozen_bn", freeze_stages=2)
        made.append(build_solov2(backbone, HeadConfig(), CLASSES, warn=lambda _: None, load=False)[0])
    return made[0], PlainSOLOv2(made[1])


def _photograph(size: int) -> Tensor:
    return torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))


def _train_step(size: int) -> Pair:
    model, plain_model = _networks()
    layout = train_layout(torch.device("cpu"))
    model.to(memory_format=layout)
    image, objects, feat_size = _photograph(size), ellipses(7, size, size), (size // 4, size // 4)
    optimizers = [
        torch.optim.SGD([p for p in m.parameters() if p.requires_grad], lr=1e-4, momentum=0.9, fused=fused)
        for m, fused in ((model, True), (plain_model, False))
    ]

    def ours() -> Tensor:
        targets = _our_targets(objects, feat_size)
        losses = solov2_losses(model(image.contiguous(memory_format=layout)), [targets])
        return _step(optimizers[0], losses)

    def plain() -> Tensor:
        targets = plain_targets(objects.boxes, objects.classes, objects.masks, feat_size, num_classes=CLASSES)
        return _step(optimizers[1], plain_losses(plain_model(image), [targets], CLASSES))

    _agree(plain(), ours(), tolerance=1e-3)
    return Pair(f"R-50, one image of {size}x{size}, 7 instances, SGD", plain, ours)


def _step(optimizer: torch.optim.Optimizer, losses: dict[str, Tensor]) -> Tensor:
    loss = torch.stack(list(losses.values())).sum()
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    return loss.detach()


def _inference(size: int) -> Pair:
    """A threshold that 400 cells pass stands for a trained network, of which an untrained one has no instances."""
    model, plain_model = _networks()
    model, plain_model = model.to(memory_format=torch.channels_last).eval(), plain_model.eval()  # as `predict` does
    image = _photograph(size)
    with torch.inference_mode():
        scores = torch.cat([cate.sigmoid().flatten() for cate in plain_model(image).cate])
    threshold = float(scores.sort(descending=True).values[1500])
    decoding = Decoding(score_threshold=threshold, update_threshold=0.0)

    @torch.inference_mode()
    def ours() -> Any:
        predictions = model(image.contiguous(memory_format=torch.channels_last))
        return decode(predictions, [(size, size)], [(size, size)], decoding)[0]

    @torch.inference_mode()
    def plain() -> Any:
        outputs: Outputs = plain_model(image)
        return plain_inference(outputs, 0, (size, size), (size, size), score_threshold=threshold, update_threshold=0.0)

    _agree(plain().scores, ours().scores, tolerance=1e-3)
    return Pair(f"R-50, one image of {size}x{size}, {len(ours().scores)} instances", plain, ours)


def _agree(plain: Tensor, ours: Tensor, tolerance: float = 1e-5) -> None:
    """Raises: AssertionError if the sides do not compute the same; a comparison would be worth nothing."""
    torch.testing.assert_close(ours, plain, rtol=tolerance, atol=tolerance)


if __name__ == "__main__":
    main()
