"""Ctrl-C and SIGTERM finish the step, write it down, and lose nothing."""

import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from sapnet_pipe.stages.training.checkpoint import load_checkpoint, save_tensors
from sapnet_pipe.stages.training.interruption import finishing_steps
from sapnet_pipe.stages.training.run_files import CHECKPOINT
from tests.places import child_environment
from tests.stages.training.test_training_loop import CONFIG, fit, loss_fn, network, records, same_weights


def untimed(out: Path) -> list[dict[str, float]]:
    return [{name: value for name, value in line.items() if name != "seconds"} for line in records(out)]


@pytest.fixture(autouse=True)
def sigterm_as_ctrl_c() -> Any:
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_training_goes_on_from_that_very_step(tmp_path: Path, number: signal.Signals) -> None:
    fit(tmp_path / "whole")

    def interrupt(net: Any, batch: Any) -> Any:
        signal.raise_signal(number)  # in the middle of the step
        return loss_fn(net, batch)

    done: list[int] = []
    for calls in (7, 1, 5, 27):  # steps until the next interruption; the last one is at the end
        left = iter(range(calls, 0, -1))
        with pytest.raises(KeyboardInterrupt):
            fit(
                tmp_path / "cut", resume=True, model=network(seed=9) if done else network(),
                loss_fn=lambda net, batch, left=left: (interrupt if next(left) == 1 else loss_fn)(net, batch),
            )  # fmt: skip
        done.append(load_checkpoint(tmp_path / "cut" / CHECKPOINT).iteration)
    assert done == [7, 8, 13, 40]
    result = fit(tmp_path / "cut", model=network(seed=9), resume=True)
    assert same_weights(tmp_path / "whole", tmp_path / "cut")
    assert untimed(tmp_path / "cut") == untimed(tmp_path / "whole")
    assert result.metrics["loss"] == records(tmp_path / "whole")[-1]["loss"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_the_same_signal_again_ends_at_once_and_another_one_does_not() -> None:
    with finishing_steps(quiet=True) as interruption:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)  # torchrun passes a Ctrl-C on so
        assert interruption.asked == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        interruption.asked = None


def test_an_interruption_that_nothing_obeyed_is_passed_on_at_the_end() -> None:
    with pytest.raises(KeyboardInterrupt), finishing_steps(quiet=True):
        signal.raise_signal(signal.SIGTERM)


def test_signals_that_are_ignored_stay_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with finishing_steps(quiet=True) as interruption:
            signal.raise_signal(signal.SIGINT)
            assert interruption.asked is None
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_training_in_a_thread_handles_no_signals(tmp_path: Path) -> None:
    thread = threading.Thread(target=fit, args=(tmp_path,))
    thread.start()
    thread.join()
    assert load_checkpoint(tmp_path / CHECKPOINT).iteration == 40


def test_an_interruption_at_the_step_that_a_guard_ends_is_judged_on_resume(tmp_path: Path) -> None:
    def guard(iteration: int, values: dict[str, float]) -> None:
        if iteration == 8:
            raise RuntimeError("at chance")

    steps = iter(range(1, 9))

    def interrupted(net: Any, batch: Any) -> Any:
        if next(steps) == 8:
            signal.raise_signal(signal.SIGINT)
        return loss_fn(net, batch)

    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path, loss_fn=interrupted, on_step=guard)
    assert load_checkpoint(tmp_path / CHECKPOINT).iteration == 8
    with pytest.raises(RuntimeError, match="at chance"):
        fit(tmp_path, on_step=guard, resume=True)


def test_an_interrupted_checkpoint_is_an_interruption_and_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "last.pt"
    save_tensors(path, {"a": torch.zeros(2)})

    class Interrupted:
        def __reduce__(self) -> Any:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        save_tensors(path, {"a": torch.ones(2), "b": Interrupted()})
    assert [file.name for file in tmp_path.iterdir()] == ["last.pt"]
    assert torch.equal(torch.load(path)["a"], torch.zeros(2))


def test_checkpoints_are_written_by_the_clock_too(tmp_path: Path) -> None:
    class StopError(Exception):
        pass

    def stop(iteration: int, values: dict[str, float]) -> None:
        if iteration == 4:
            raise StopError

    for minutes, expected in ((1e-9, 4), (0.0, 0)):
        out = tmp_path / str(expected)
        with pytest.raises(StopError):
            fit(out, config=CONFIG.model_copy(update={"checkpoint_minutes": minutes}), on_step=stop)
        assert load_checkpoint(out / CHECKPOINT).iteration == expected


@pytest.mark.parametrize("workers", [0, 2])
def test_ctrl_c_in_the_terminal_reaches_workers_too_and_disturbs_nothing(tmp_path: Path, workers: int) -> None:
    config = CONFIG.model_copy(update={"workers": workers, "max_iterations": 400})
    script = (
        "import os, signal\n"
        "from pathlib import Path\n"
        "from tests.stages.training.test_interruption import CONFIG, fit\n"
        f"config = CONFIG.model_copy(update={{'workers': {workers}, 'max_iterations': 400}})\n"
        "stop = lambda i, v: i == 9 and os.killpg(0, signal.SIGINT)\n"
        f"fit(Path({str(tmp_path / 'cut')!r}), config=config, on_step=stop)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script],
        env=child_environment(),
        start_new_session=True,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert ended.stderr.count("Traceback") == 1, ended.stderr  # Python's own for the KeyboardInterrupt
    assert 9 <= load_checkpoint(tmp_path / "cut" / CHECKPOINT).iteration <= 10
    fit(tmp_path / "cut", config=config, model=network(seed=9), resume=True)
    fit(tmp_path / "whole", config=config)
    assert untimed(tmp_path / "cut") == untimed(tmp_path / "whole")
