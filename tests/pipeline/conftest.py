"""One small job, run once through all stages; tests work in a copy of its folder."""

import shlex
import shutil
from pathlib import Path

import pytest

from sapnet_pipe.pipeline.cli import run
from tests.pipeline.toy_job import BAGS, SELECT, TRAIN, write_toy


@pytest.fixture(scope="session")
def finished_job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with images, truth.json, points.json, bags, run (of select), seg (of train-seg), pred.json."""
    folder = tmp_path_factory.mktemp("job")
    write_toy(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for line in (
            f"{BAGS} --out bags",
            f"{SELECT} --out run",
            f"{TRAIN} --labels run/pseudo_labels.json --out seg",
            "predict --run seg --images images --out pred.json --images-json truth.json --quiet",
        ):
            assert run(shlex.split(line)) == 0, line
    return folder


@pytest.fixture
def job(finished_job: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the finished job, which is the working directory."""
    folder = tmp_path / "job"
    shutil.copytree(finished_job, folder)
    monkeypatch.chdir(folder)
    return folder
