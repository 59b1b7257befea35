"""The maths of a whole step: equal to plain loops, one graph, without a look at a value, safe in bfloat16."""

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from tests.stages.select.method.golden_cases import close
from tests.stages.select.method.loop_maths import LoopStep
from tests.stages.select.method.step_maths import StepInputs, StepResult, random_step, step_maths


def loop_of(given: StepInputs) -> LoopStep:
    """The plain loops on the same inputs, of one image, their padding taken away."""
    masks = given.boxes.shape[1]
    places = [row.nonzero()[:, 0].tolist() for row in given.valid]
    more = list(range(masks, given.prm_cls.shape[1]))
    logits = {
        name: [getattr(given, name)[i, place + (more if name.startswith("prm") else [])].tolist()
               for i, place in enumerate(places)]
        for name in ("psm_cls", "psm_ins", "prm_cls", "prm_ins")
    }  # fmt: skip
    bags = [given.boxes[i, place].tolist() for i, place in enumerate(places)]
    size = float(given.sizes[0, 0]), float(given.sizes[0, 1])
    draws, negative = given.draws[0].T.tolist(), given.negative_logits.tolist()
    return LoopStep(given.points.tolist(), given.class_index.tolist(), bags, size, draws, logits, negative)


def equal_to_loop(ours: StepResult, loop: LoopStep, valid: Tensor) -> None:
    """To 1e-5; of boxes to 1e-5 of the box's largest coordinate, as all four are computed from its centre."""
    known = torch.cat([valid, valid.new_ones(len(valid), 20)], dim=1)
    for name, mask in (("s_dis", valid), ("psm", valid), ("prm", known)):
        close(getattr(ours, name)[mask], torch.cat([torch.tensor(bag) for bag in getattr(loop, name)]), 1e-5)
    for name in ("loss_psm", "loss_prm", "loss_negative"):
        close(getattr(ours, name), torch.tensor(getattr(loop, name)), 1e-5)
    wanted = {name: torch.tensor(getattr(loop, name)) for name in ("mined", "box", "parts")}
    wanted["positives"] = torch.cat([torch.tensor(bag) for bag in loop.positives])
    found = {"mined": ours.mined, "box": ours.box, "parts": ours.parts[:, 0], "positives": ours.positives[known]}
    for name, boxes in wanted.items():
        size = 1 + boxes.abs().amax(dim=1, keepdim=True)
        assert ((found[name] - boxes).abs() <= 1e-5 * size).all(), name
    assert ours.keep.flatten().tolist() == loop.keep
    assert ours.part_keep.flatten().tolist() == loop.part_keep


@pytest.mark.parametrize("points", [1, 7, 20])
def test_a_step_equals_plain_loops(points: int) -> None:
    given = random_step(points, classes=5, random_boxes=100, seed=points)
    equal_to_loop(step_maths(given, points), loop_of(given), given.valid)


def test_several_images_in_one_batch_equal_each_image_alone() -> None:
    singles = [random_step(6, classes=5, random_boxes=50, seed=seed) for seed in (1, 2, 3)]
    joined = {
        name: torch.cat([getattr(single, name) for single in singles])
        for name in ("points", "class_index", "boxes", "valid", "sizes", "draws", "psm_cls", "psm_ins", "prm_cls",
                     "prm_ins", "negative_logits")
    }  # fmt: skip
    most = max(single.neighbours_valid.shape[1] for single in singles)
    pad = torch.nn.functional.pad
    xy = torch.cat([pad(s.neighbours_xy, (0, 0, 0, most - s.neighbours_xy.shape[1])) for s in singles])
    known = torch.cat([pad(s.neighbours_valid, (0, most - s.neighbours_valid.shape[1])) for s in singles])
    image_index, slot = torch.arange(3).repeat_interleave(6), torch.arange(6).repeat(3)
    batch = StepInputs(
        image_index=image_index, slot=slot, neighbours_xy=xy, neighbours_valid=known, **joined
    )  # fmt: skip
    together = step_maths(batch, 6)
    for i, single in enumerate(singles):
        alone, rows = step_maths(single, 6), slice(6 * i, 6 * i + 6)
        for name in ("s_dis", "psm", "mined", "positives", "prm", "box", "parts"):
            close(getattr(together, name)[rows], getattr(alone, name), 1e-6)
        assert torch.equal(together.keep[i], alone.keep[0])
    for name in ("loss_psm", "loss_prm"):
        alone_mean = torch.stack([getattr(step_maths(single, 6), name) for single in singles]).mean()
        close(getattr(together, name), alone_mean, 1e-6)


def test_a_step_on_an_accelerator_never_waits_for_a_value() -> None:
    # Fake tensors have a device and a shape but no values: code that needs one raises.
    mode = FakeTensorMode()
    given = [FakeTensor(mode, t.to("meta"), torch.device("cuda:0")) for t in random_step(7, images=2)]
    with mode:
        result = step_maths(StepInputs(*given), 7)
        with pytest.raises(RuntimeError):
            result.loss_negative.item()
    assert result.positives.shape == (14, 26, 4)


def test_a_step_is_one_graph_with_the_same_results() -> None:
    torch._dynamo.reset()
    given = random_step(7, images=2, classes=9, random_boxes=100)
    compiled = torch.compile(step_maths, fullgraph=True, backend="eager")(given, 7)
    for ours, wanted in zip(compiled, step_maths(given, 7), strict=True):
        assert torch.equal(ours, wanted) if ours.dtype == torch.bool else torch.allclose(ours, wanted, atol=1e-5)


@pytest.mark.slow
def test_a_step_compiled_to_machine_code_has_the_same_results() -> None:
    torch._dynamo.reset()
    given = random_step(20, images=2, classes=9, random_boxes=100)
    compiled = torch.compile(step_maths, fullgraph=True)(given, 20)
    for ours, wanted in zip(compiled, step_maths(given, 20), strict=True):
        assert torch.equal(ours, wanted) if ours.dtype == torch.bool else torch.allclose(ours, wanted, atol=1e-4)


def test_autocast_to_bfloat16_changes_nothing() -> None:
    given = random_step(7)
    plain = step_maths(given, 7)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = step_maths(given, 7)
    for ours, wanted in zip(mixed, plain, strict=True):
        assert ours.dtype == wanted.dtype
        assert torch.equal(ours, wanted)
