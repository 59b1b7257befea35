"""Progress in a log file and on a terminal."""

import io

import pytest
from tqdm import tqdm

from sapnet_pipe.data import progress
from sapnet_pipe.data.progress import progress_bar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that have passed, of which the test decides; tqdm asks for a line at every step."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def walk(file: io.StringIO, clock: list[float], *, steps: int, seconds: float, **options: object) -> list[str]:
    for _ in progress_bar(range(steps), quiet=False, file=file, desc="bags", mininterval=0, miniters=1, **options):
        clock[0] += seconds
    return file.getvalue().splitlines()


def test_a_log_has_a_whole_line_every_half_minute_and_at_the_end(clock: list[float]) -> None:
    file = io.StringIO()
    lines = walk(file, clock, steps=100, seconds=1)
    assert "\r" not in file.getvalue()
    assert file.getvalue().endswith("\n")
    assert [line[:10].strip() for line in lines] == ["bags:  30%", "bags:  60%", "bags:  90%", "bags: 100%"]


def test_short_work_is_one_line_in_a_log(clock: list[float]) -> None:
    (line,) = walk(io.StringIO(), clock, steps=100, seconds=0.2)
    assert line.startswith("bags: 100%")


def test_a_bar_that_does_not_stay_leaves_nothing_of_short_work(clock: list[float]) -> None:
    assert walk(io.StringIO(), clock, steps=100, seconds=0.2, leave=False) == []
    assert walk(io.StringIO(), clock, steps=100, seconds=0.5, leave=False)[-1].startswith("bags: 100%")


def test_no_work_and_quiet_work_are_no_line(clock: list[float]) -> None:
    assert walk(io.StringIO(), clock, steps=0, seconds=1) == []
    file = io.StringIO()
    with progress_bar(total=2, quiet=True, file=file) as bar:
        bar.update(2)
    assert file.getvalue() == ""


def test_what_ends_early_says_how_far_it_came() -> None:
    file = io.StringIO()
    with progress_bar(total=4, quiet=False, file=file, desc="bags") as bar:
        bar.update(1)
    assert file.getvalue().startswith("bags:  25%")


def test_other_lines_stay_whole_and_in_order(clock: list[float]) -> None:
    file = io.StringIO()
    with progress_bar(total=2, quiet=False, file=file, desc="bags", mininterval=0) as bar:
        clock[0] = 40.0
        bar.update()
        tqdm.write("a note", file=file)
        bar.update()
    assert [line[:6] for line in file.getvalue().split("\n")] == ["bags: ", "a note", "bags: ", ""]


def test_a_terminal_has_a_bar_that_is_redrawn() -> None:
    file = Terminal()
    with progress_bar(total=2, quiet=False, file=file, mininterval=0) as bar:
        bar.update(2)
    assert "\r" in file.getvalue()
