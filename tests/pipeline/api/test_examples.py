"""The examples of docs/python-api.md run as they stand, one after the other."""

import re
from pathlib import Path
from typing import Any

import pytest

import sapnet_pipe
from tests.places import ROOT

PAGE = (ROOT / "docs" / "python-api.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```python\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)


@pytest.mark.filterwarnings("ignore:The selector has learnt nothing", "ignore:.*SAM's top-1")
def test_the_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    blocks = list(BLOCK.finditer(PAGE))
    assert len(blocks) >= 6
    for block in blocks:
        line = PAGE.count("\n", 0, block.start()) + 1
        exec(compile("\n" * line + block[1], "docs/python-api.md", "exec"), names)
    printed = capsys.readouterr().out
    assert "mean IoU" in printed
    assert "train.max_iteration = 10" in printed


def test_every_public_name_is_on_the_page() -> None:
    assert [name for name in sapnet_pipe.__all__ if not re.search(rf"`{name}[`(]", PAGE)] == []
