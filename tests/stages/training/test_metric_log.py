"""metrics.jsonl: cut back to the checkpoint, and readable again after a crash."""

import logging
import threading
from pathlib import Path

import pytest

from sapnet_pipe.stages.training import metric_log
from sapnet_pipe.stages.training.metric_log import MetricLog, metrics_size, read_records

LINES = [b'{"iteration": 1}\n', b'{"iteration": 2}\n', b'{"iteration": 3}\n']


def cut(out: Path, content: bytes, keep: int) -> list[int]:
    (out / "metrics.jsonl").write_bytes(content)
    with MetricLog(out, keep, 0) as log:
        kept = read_records(out)
        log.write({"iteration": 9}, 9)
    assert read_records(out) == [*kept, {"iteration": 9}]
    return [record["iteration"] for record in kept]


def test_what_came_after_the_checkpoint_goes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert cut(tmp_path, b"".join(LINES), len(LINES[0]) * 2) == [1, 2]
    assert not caplog.records


@pytest.mark.parametrize(
    ("content", "kept"),
    [
        pytest.param([*LINES[:2], b'{"iteration": 3'], [1, 2], id="torn at the end"),
        pytest.param([LINES[0], b'{"iteration": 1, "lr\n', *LINES[1:]], [1, 2], id="a line put in"),
        pytest.param([LINES[0], b'{"iterat\xff\0n": 2}\n', LINES[2]], [1], id="a line overwritten"),
        pytest.param([b"[]\n", *LINES], [1, 2], id="no record"),
        pytest.param([b"", LINES[0]], [1], id="cut short"),
    ],
)
def test_damaged_lines_are_dropped_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: list[bytes], kept: list[int]
) -> None:
    with caplog.at_level(logging.WARNING):
        assert cut(tmp_path, b"".join(content), len(LINES[0]) * 2) == kept
    assert len(caplog.records) == (len(content) > 2)


def test_a_log_that_is_not_there_begins_empty(tmp_path: Path) -> None:
    with MetricLog(tmp_path / "new", 0, 0) as log:
        assert log.bytes_written() == metrics_size(tmp_path / "new") == 0


def test_a_tensorboard_writer_that_waits_for_itself_ends_no_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(metric_log, "_CLOSING_SECONDS", 0.1)
    log = MetricLog(tmp_path, 0, 0)
    log.write({"iteration": 1}, 1)
    monkeypatch.setattr(log._events, "close", threading.Event().wait)
    log.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert read_records(tmp_path) == [{"iteration": 1}]
    assert "TensorBoard" in caplog.text


def test_a_disk_that_is_full_when_the_writer_closes_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full() -> None:
        raise OSError(28, "No space left on device")

    log = MetricLog(tmp_path, 0, 0)
    monkeypatch.setattr(log._events, "close", full)
    with pytest.raises(OSError, match="No space"):
        log.__exit__(None, None, None)
