"""The wheel: built from a copy of the sources, installed into a new environment, used in a folder of strangers."""

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from tests.pipeline.toy_job import BAGS, write_toy
from tests.places import ROOT

SOURCES = ("pyproject.toml", "README.md", "LICENSE", "src", "pipeline", "stages", "data")

pytestmark = pytest.mark.slow


def call(*command: str | Path, cwd: Path) -> str:
    """Run a command that must succeed, without this repository on the path; its standard output."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    environment |= {"OMP_NUM_THREADS": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    done = subprocess.run([*map(str, command)], cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built as pip builds it, with the build tools that pyproject.toml asks for."""
    folder = tmp_path_factory.mktemp("sources")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=shutil.ignore_patterns("*.egg-info"))
        else:
            shutil.copyfile(ROOT / name, folder / name)
    call(sys.executable, "-m", "build", "--wheel", "--outdir", folder / "dist", folder, cwd=folder)
    (built,) = (folder / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def program(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``sapnet-pipe`` of a new environment that has the wheel, and this one's packages for all that it needs."""
    venv = tmp_path_factory.mktemp("environment") / "venv"
    call(sys.executable, "-m", "venv", venv, cwd=venv.parent)
    call(venv / "bin" / "pip", "install", "--no-deps", "--no-index", wheel, cwd=venv.parent)
    (site,) = venv.glob("lib/python*/site-packages")
    (site / "needed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return venv / "bin" / "sapnet-pipe"


@pytest.fixture
def strangers(tmp_path: Path) -> Path:
    """A folder with photographs, points, and packages of its own that have the names of ours."""
    folder = tmp_path / "project"
    write_toy(folder)
    for name in ("data", "stages", "pipeline"):
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text("raise SystemExit('the package of a stranger was imported')\n")
    return folder


def test_the_wheel_has_the_weights_and_the_licence_and_no_tests(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {
        "sapnet_pipe/stages/bags/tiny_sam/tiny_sam.pt",
        "sapnet_pipe/pipeline/ablate/presets/chain.toml",
        "sapnet_pipe/py.typed",
    } <= set(names)
    assert any(name.endswith("LICENSE") for name in names)
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"sapnet_pipe"}
    sources = {
        f"sapnet_pipe/{path.relative_to(ROOT)}"
        for floor in ("data", "pipeline", "stages")
        for path in (ROOT / floor).rglob("*.py")
    }
    assert sources <= set(names)


def test_the_program_runs_in_a_folder_with_packages_of_the_same_names(program: Path, strangers: Path) -> None:
    assert "generate-bags" in call(program, "--help", cwd=strangers)
    assert call(program, "--version", cwd=strangers).startswith("sapnet-pipe ")
    call(program, "points", "--annotations", "truth.json", "--out", "new.json", cwd=strangers)
    call(program, *BAGS.split(), "--out", "bags", cwd=strangers)
    call(
        program, "select", "--bags", "bags", "--images", "images", "--out", "run", "--method", "largest", cwd=strangers
    )
    assert (strangers / "run" / "pseudo_labels.json").is_file()
