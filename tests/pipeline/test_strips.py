"""Pictures of one's own data: `doctor`, `bags inspect` and `select` with --draw."""

import shlex
from pathlib import Path

import pytest
from PIL import Image

from sapnet_pipe.pipeline.cli import run
from tests.pipeline.one_line import check_message


def test_every_stage_draws_what_it_looks_at(job: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(shlex.split("doctor --points points.json --images images --draw clicks")) == 0
    assert run(shlex.split("bags inspect bags --images images --draw drawn")) == 0
    assert run(shlex.split("select --bags bags --images images --out new --method largest --draw choices")) == 0
    said = capfd.readouterr().out
    widths = {}
    for folder in ("clicks", "drawn", "choices"):
        pictures = sorted(path for path in (job / folder).iterdir() if path.name != "differences.png")
        assert f"{len(pictures)} of {len(pictures)} photographs with clicks are drawn in {folder}." in said
        widths[folder] = Image.open(pictures[0]).width
    assert "differences.png shows the" in said
    assert (job / "choices" / "differences.png").is_file()
    assert widths["clicks"] < widths["choices"] < widths["drawn"]  # one, four and five panels


def test_pictures_need_photographs_and_a_new_folder(job: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(shlex.split("bags inspect bags --draw drawn")) == 2
    check_message(capfd.readouterr().err, "--draw * no photographs to draw on * --images")
    assert run(shlex.split("select --bags bags --images images --out new --method largest --draw images")) == 2
    check_message(capfd.readouterr().err, "--draw * images * taken")
    assert not (job / "new").exists()
