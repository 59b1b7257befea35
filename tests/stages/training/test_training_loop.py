"""The loop that both trainings share, on a network of two layers."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sapnet_pipe.data.errors import UserError
from sapnet_pipe.stages.training.checkpoint import load_checkpoint
from sapnet_pipe.stages.training.loop import TrainConfig, TrainResult, decay_groups, train
from sapnet_pipe.stages.training.run_files import CHECKPOINT
from tests.places import child_environment

CONFIG = TrainConfig(
    max_iterations=40, batch_size=4, lr=0.05, warmup_iterations=4, checkpoint_every=6, log_every=5, clip_norm=1.0
)


def batch_at(iteration: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(iteration)
    inputs = torch.randn(4, 3, generator=generator)
    return inputs, inputs.sum(dim=1, keepdim=True)


def loss_fn(net: nn.Module, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
    error = net(batch[0]) - batch[1]
    return {"loss_square": error.square().mean(), "largest": error.abs().max()}


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.1), nn.Linear(8, 1))


def fit(out: Path, *, model: nn.Module | None = None, config: TrainConfig = CONFIG, **options: Any) -> TrainResult:
    arguments: dict[str, Any] = {
        "loss_fn": loss_fn, "batch_at": batch_at, "seed": 3, "device": "cpu", "resume": False, "quiet": True,
    }  # fmt: skip
    return train(model=model or network(), out=out, config=config, **(arguments | options))


def same_weights(a: Path, b: Path) -> bool:
    first, second = (load_checkpoint(path / CHECKPOINT).model for path in (a, b))
    return all(torch.equal(first[key], second[key]) for key in first)


def records(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def test_the_loss_falls_and_the_records_say_so(tmp_path: Path) -> None:
    result = fit(tmp_path)
    lines = records(tmp_path)
    assert [line["iteration"] for line in lines] == [5, 10, 15, 20, 25, 30, 35, 40]
    assert lines[-1]["loss_square"] < 0.5 * lines[0]["loss_square"]
    assert lines[-1]["loss"] == pytest.approx(lines[-1]["loss_square"])  # `largest` is logged, not minimised
    assert result.iterations == 40
    assert result.to_dict()["checkpoint"] == str(tmp_path / "checkpoints" / "last.pt")
    assert list((tmp_path / "tensorboard").iterdir())


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_training_stopped_anywhere_resumes_to_the_same_weights(tmp_path: Path, optimizer: str) -> None:
    config = CONFIG.model_copy(update={"optimizer": optimizer})
    fit(tmp_path / "whole", config=config)

    def stop(iteration: int, values: dict[str, float]) -> None:
        if iteration == 22:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "cut", config=config, on_step=stop)
    assert load_checkpoint(tmp_path / "cut" / CHECKPOINT).iteration == 18
    fit(tmp_path / "cut", config=config, model=network(seed=9), resume=True)
    assert same_weights(tmp_path / "whole", tmp_path / "cut")
    assert [line["iteration"] for line in records(tmp_path / "cut")] == [5, 10, 15, 20, 25, 30, 35, 40]


def test_a_killed_training_resumes_to_the_same_weights(tmp_path: Path) -> None:
    fit(tmp_path / "whole")
    script = (
        "import time\n"
        "from pathlib import Path\n"
        "from tests.stages.training.test_training_loop import fit\n"
        f"fit(Path({str(tmp_path / 'killed')!r}), resume=True, on_step=lambda i, v: time.sleep(0.01))\n"
    )
    for moment in (0.15, 0.3):
        process = subprocess.Popen([sys.executable, "-c", script], env=child_environment())
        wait_for(tmp_path / "killed" / CHECKPOINT)
        time.sleep(moment)
        process.send_signal(signal.SIGKILL)
        process.wait()
    fit(tmp_path / "killed", model=network(seed=9), resume=True)
    assert same_weights(tmp_path / "whole", tmp_path / "killed")
    assert [line["iteration"] for line in records(tmp_path / "killed")] == [5, 10, 15, 20, 25, 30, 35, 40]


def wait_for(path: Path) -> None:
    for _ in range(600):
        if path.is_file():
            return
        time.sleep(0.05)
    raise TimeoutError(str(path))


def test_a_finished_training_resumes_without_a_step(tmp_path: Path) -> None:
    fit(tmp_path)
    before = load_checkpoint(tmp_path / CHECKPOINT).model
    fit(tmp_path, model=network(seed=5), resume=True)
    after = load_checkpoint(tmp_path / CHECKPOINT).model
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_worker_processes_change_nothing(tmp_path: Path) -> None:
    fit(tmp_path / "none")
    fit(tmp_path / "one", config=CONFIG.model_copy(update={"workers": 1}))
    assert same_weights(tmp_path / "none", tmp_path / "one")


def test_a_user_error_of_a_worker_stays_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a\.json: image 7 = b\.jpg, missing\. Find it\."):
        fit(tmp_path, batch_at=broken_batch, config=CONFIG.model_copy(update={"workers": 1}))


def broken_batch(iteration: int) -> tuple[Tensor, Tensor]:
    if iteration == 2:
        raise UserError("a.json", "image 7", "b.jpg", "missing", "Find it")
    return batch_at(iteration)


def test_a_loss_that_stays_nan_stops_the_training_with_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="loss_square = nan, not finite for 5 steps in a row"):
        fit(tmp_path, loss_fn=lambda net, batch: {"loss_square": net(batch[0]).mean() * float("nan")})


def test_one_bad_batch_is_skipped_and_counted(tmp_path: Path) -> None:
    def poisoned(iteration: int) -> tuple[Tensor, Tensor]:
        inputs, wanted = batch_at(iteration)
        return inputs, wanted * (float("inf") if iteration == 12 else 1.0)

    result = fit(tmp_path, batch_at=poisoned)
    assert result.skipped_steps == 1
    assert all(torch.isfinite(v).all() for v in load_checkpoint(tmp_path / CHECKPOINT).model.values())
    assert records(tmp_path)[-1]["skipped"] == 1


def test_frozen_parameters_stay_as_they_are(tmp_path: Path) -> None:
    model = network()
    weight = model.get_parameter("0.weight").requires_grad_(False)
    before = weight.clone()
    fit(tmp_path, model=model)
    assert torch.equal(weight, before)


def test_weight_decay_spares_biases_and_norms(tmp_path: Path) -> None:
    linear, norm = nn.Linear(3, 4), nn.LayerNorm(4)
    model = nn.Sequential(linear, norm)
    biases = [p.clone() for p in (linear.bias, norm.weight)]
    weight = linear.weight.clone()
    still = CONFIG.model_copy(update={"weight_decay": 0.5, "max_iterations": 3, "warmup_iterations": 0})
    fit(tmp_path, model=model, config=still, loss_fn=lambda net, batch: {"loss": 0 * net(batch[0]).sum()})
    assert torch.equal(linear.bias, biases[0])
    assert torch.equal(norm.weight, biases[1])
    assert (linear.weight.abs() < weight.abs()).all()


@pytest.mark.parametrize("damage", ["truncated", "foreign", "other network"])
def test_a_checkpoint_that_does_not_fit_is_refused(tmp_path: Path, damage: str) -> None:
    fit(tmp_path)
    path = tmp_path / CHECKPOINT
    model = network()
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-500])
    elif damage == "foreign":
        torch.save({"weights": torch.zeros(3)}, path)
    else:
        model = nn.Sequential(nn.Linear(3, 9), nn.Linear(9, 1))
    with pytest.raises(UserError, match=r"last\.pt"):
        fit(tmp_path, model=model, resume=True)


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path: Path) -> None:
    path = tmp_path / CHECKPOINT
    path.parent.mkdir(parents=True)
    torch.save({"format": os.getcwd}, path)
    with pytest.raises(UserError, match="holds code that could run"):
        fit(tmp_path, resume=True)


def test_a_device_that_is_not_there_is_a_user_error(tmp_path: Path) -> None:
    for name in ("cuda:99", "tpu", "nonsense"):
        with pytest.raises(UserError, match="device"):
            fit(tmp_path, device=name)


def test_half_precision_on_a_cpu_is_refused_and_bfloat16_trains(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"train\.precision"):
        fit(tmp_path, config=CONFIG.model_copy(update={"precision": "16-mixed"}))
    result = fit(tmp_path, config=CONFIG.model_copy(update={"precision": "bf16-mixed"}))
    assert result.skipped_steps == 0


def test_losses_are_named_or_refused() -> None:
    from sapnet_pipe.stages.training.step import sum_losses

    assert sum_losses({"loss_a": torch.tensor(1.0), "loss_b": torch.tensor(2.0), "accuracy": torch.tensor(5.0)}) == 3
    with pytest.raises(ValueError, match="accuracy"):
        sum_losses({"accuracy": torch.tensor(1.0)})


@pytest.mark.parametrize(
    ("decay", "decayed"),
    [
        ("weights", {"0.weight", "3.weight"}),
        ("biases", {"0.weight", "3.weight", "0.bias", "3.bias"}),
        ("all", {"0.weight", "3.weight", "0.bias", "3.bias", "1.weight", "1.bias", "2.weight", "2.bias"}),
    ],
)
def test_what_is_decayed_is_told_apart_by_kind(decay: str, decayed: set[str]) -> None:
    model = nn.Sequential(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2), nn.GroupNorm(1, 2), nn.Conv2d(2, 2, 1))
    config = TrainConfig.model_validate({"weight_decay": 0.5, "decay": decay})
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = decay_groups(model, config)
    found = {names[id(p)]: group["weight_decay"] for group in groups for p in group["params"]}
    assert found.keys() == set(names.values())
    assert {name for name, value in found.items() if value} == decayed
    assert set(found.values()) <= {0.0, 0.5}
