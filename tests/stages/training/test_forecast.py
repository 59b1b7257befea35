import pytest
import torch

from sapnet_pipe.stages.training import forecast
from sapnet_pipe.stages.training.forecast import Forecast


def _line(monkeypatch: pytest.MonkeyPatch, steps: int, ends: list[float]) -> tuple[Forecast, list[str]]:
    said: list[str] = []
    clock = iter([0.0, *ends])
    monkeypatch.setattr(forecast.tqdm, "write", lambda line, file: said.append(line))
    monkeypatch.setattr(forecast.time, "perf_counter", lambda: next(clock))
    told = Forecast(steps, torch.device("cpu"), shorter="--preset small", quiet=False)
    for _ in range(min(steps, 5)):
        told.after_step()
    return told, said


def test_three_steps_after_the_first_are_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    told, said = _line(monkeypatch, 100, [10.0, 16.0])  # the first takes 10 s, the next three 2 s each
    assert told.seconds == 10 + 99 * 2
    (line,) = said
    assert line.startswith("about 3.47 minutes for 100 steps of 2 s on this machine, ")
    assert "GB of memory" in line
    assert "Sooner" not in line


def test_hours_come_with_what_would_be_sooner(monkeypatch: pytest.MonkeyPatch) -> None:
    _, said = _line(monkeypatch, 1500, [30.0, 120.0])
    assert said[0].startswith("about 12.5 hours for 1500 steps of 30 s")
    assert said[0].endswith("Sooner: --preset small.")


def test_so_few_steps_need_no_forecast(monkeypatch: pytest.MonkeyPatch) -> None:
    told, said = _line(monkeypatch, 4, [10.0, 16.0])
    assert told.seconds is None
    assert said == []
