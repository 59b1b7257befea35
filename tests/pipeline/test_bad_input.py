"""Whatever a user can get wrong ends in one line that says how to fix it, and changes nothing on disk."""

import shlex
from pathlib import Path

import pytest

from sapnet_pipe.pipeline.cli import run
from tests.pipeline.bad_input_cases import CASES
from tests.pipeline.one_line import check_message
from tests.pipeline.spoilers import TRAP, Spoiler
from tests.pipeline.toy_job import snapshot


@pytest.mark.parametrize(
    ("spoil", "command", "message"), [pytest.param(*case[1:], id=case[0].replace(" ", "-")) for case in CASES]
)
def test_bad_input_ends_in_one_line_and_changes_nothing(
    job: Path, capfd: pytest.CaptureFixture[str], spoil: Spoiler, command: str, message: str
) -> None:
    spoil(job)
    before = snapshot(job)
    capfd.readouterr()
    code = run(shlex.split(command))
    said = capfd.readouterr()
    check_message(said.err, message)
    assert code == 2
    assert said.out == ""
    assert not (job / TRAP).exists(), "code in a file was run"
    assert snapshot(job) == before, "something was written, changed or removed"
