"""The wheel: built from a copy of the sources, installed into a new environment, used among packages of strangers."""

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from tests.pipeline.toy_job import BAGS, SELECT, write_toy
from tests.places import ROOT

SOURCES = ("pyproject.toml", "README.md", "LICENSE", "src", "pipeline", "stages", "data")
FLOORS = ("data", "stages", "pipeline")
STRANGER = "raise SystemExit('the package of a stranger was imported')\n"
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "sapnet_pipe")

pytestmark = pytest.mark.slow


def call(*command: str | Path, cwd: Path) -> str:
    """Run a command that must succeed, without this repository on the path; its standard output."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    environment |= {"OMP_NUM_THREADS": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    done = subprocess.run([*map(str, command)], cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def environment(folder: Path, *arguments: str | Path) -> Path:
    """``bin`` of a new environment: pip installs `arguments`, and this environment has all that they need."""
    call(sys.executable, "-m", "venv", folder, cwd=folder.parent)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "needed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    call(folder / "bin" / "python", "-m", "pip", "install", "--no-deps",
         *arguments, cwd=folder.parent)  # fmt: skip
    return folder / "bin"


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what a clone holds, links as links."""
    folder = tmp_path_factory.mktemp("sources")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=shutil.ignore_patterns("*.egg-info"))
        else:
            shutil.copyfile(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def wheel(sources: Path) -> Path:
    """The wheel, built from the source distribution with the build tools that pyproject.toml asks for."""
    call(sys.executable, "-m", "build", "--outdir", sources / "dist", sources, cwd=sources)
    (built,) = (sources / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def bin_of_wheel(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``bin`` of an environment that has the wheel."""
    return environment(tmp_path_factory.mktemp("environment") / "venv", wheel)


@pytest.fixture
def strangers(tmp_path: Path) -> Path:
    """A folder with photographs, points, and packages of its own that have the names of our floors."""
    folder = tmp_path / "project"
    write_toy(folder)
    for name in FLOORS:
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text(STRANGER)
    return folder


def strangers_wheel(folder: Path) -> Path:
    """A wheel that installs ``data``, ``stages`` and ``pipeline`` of its own at the top of site-packages."""
    wheel = folder / "strangers-1.0-py3-none-any.whl"
    info = "strangers-1.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        names = [f"{floor}/{name}.py" for floor in FLOORS for name in ("__init__", "coco", "cli")]
        for name in names:
            archive.writestr(name, STRANGER)
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: strangers\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        files = (*names, f"{info}/METADATA", f"{info}/WHEEL", f"{info}/RECORD")
        archive.writestr(f"{info}/RECORD", "".join(f"{name},,\n" for name in files))
    return wheel


def test_the_wheel_has_the_weights_and_the_licence_and_one_name_at_its_top(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {
        "sapnet_pipe/stages/bags/tiny_sam/tiny_sam.pt",
        "sapnet_pipe/pipeline/ablate/presets/chain.toml",
        "sapnet_pipe/py.typed",
    } <= set(names)
    assert any(name.endswith("LICENSE") for name in names)
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"sapnet_pipe"}
    written = {f"sapnet_pipe/{path.relative_to(ROOT)}" for floor in FLOORS for path in (ROOT / floor).rglob("*.py")}
    assert written <= set(names)


def test_script_module_and_torchrun_work_in_a_folder_of_strangers(bin_of_wheel: Path, strangers: Path) -> None:
    program, python = bin_of_wheel / "sapnet-pipe", bin_of_wheel / "python"
    assert "generate-bags" in call(program, "--help", cwd=strangers)
    assert call(python, "-m", "sapnet_pipe", "--version", cwd=strangers).startswith("sapnet-pipe ")
    call(program, "points", "--annotations", "truth.json", "--out", "new.json", cwd=strangers)
    call(python, "-m", "sapnet_pipe", *BAGS.split(), "--out", "bags", cwd=strangers)
    call(python, *TORCHRUN, *SELECT.split(), "--out", "run", cwd=strangers)
    assert (strangers / "run" / "pseudo_labels.json").is_file()


def test_a_spawned_worker_finds_our_modules_among_strangers(bin_of_wheel: Path, strangers: Path) -> None:
    (strangers / "spawn.py").write_text(
        "import multiprocessing\n"
        "from sapnet_pipe.stages.training.cores import available_cores\n"
        "if __name__ == '__main__':\n"
        "    with multiprocessing.get_context('spawn').Pool(1) as pool:\n"
        "        print(pool.apply(available_cores))\n"
    )
    assert int(call(bin_of_wheel / "python", "spawn.py", cwd=strangers)) >= 1


def test_a_ray_worker_finds_our_modules_among_strangers(bin_of_wheel: Path, strangers: Path) -> None:
    pytest.importorskip("ray", reason="no Ray here: make test-scale installs it and runs these")
    call(
        bin_of_wheel / "sapnet-pipe",
        *BAGS.split(),
        "--ray",
        "auto",
        "--set",
        "workers=1",
        "--out",
        "bags",
        cwd=strangers,
    )
    assert (strangers / "bags" / "manifest.json").is_file()


def test_our_wheel_and_one_that_ships_packages_of_those_names_do_not_meet(wheel: Path, tmp_path: Path) -> None:
    place = environment(tmp_path / "venv", wheel, strangers_wheel(tmp_path))
    write_toy(tmp_path / "job")
    call(place / "sapnet-pipe", *BAGS.split(), "--out", "bags", cwd=tmp_path / "job")
    call(place / "python", "-m", "pip", "uninstall", "-y", "strangers", cwd=tmp_path)
    call(place / "python", "-m", "sapnet_pipe", *SELECT.split(), "--out", "run", cwd=tmp_path / "job")


def test_an_editable_install_runs_and_type_checkers_see_the_types(
    sources: Path, strangers: Path, tmp_path: Path
) -> None:
    place = environment(tmp_path / "venv", "--editable", sources)
    assert call(place / "python", "-m", "sapnet_pipe", "--version", cwd=strangers).startswith("sapnet-pipe ")
    (strangers / "client.py").write_text(
        "from sapnet_pipe.data.boxes import xywh_to_xyxy\nfrom sapnet_pipe.data.files import sha256_file\n"
        "reveal_type(sha256_file)\nreveal_type(xywh_to_xyxy)\n"
    )
    said = call(place / "python", "-m", "mypy", "client.py", cwd=strangers)
    assert "def (path: pathlib.Path) -> str" in said
    assert "Success" in said
