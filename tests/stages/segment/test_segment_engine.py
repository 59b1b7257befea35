"""Which engine is taken with a sound Detectron2, a broken one, none, and a fault in our own modules."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from sapnet_pipe.data.errors import UserError
from sapnet_pipe.stages.segment.detectron2.probe import REQUIRED
from sapnet_pipe.stages.segment.engine import choose_engine
from tests.places import ROOT, child_environment
from tests.stages.segment.segment_scenes import write_scenes

HOST = ROOT / "stages" / "segment" / "detectron2"
# A module that has every name, each of them a class of its own.
ANY_NAME = """
__version__ = "0.0-stub"
def __getattr__(name):
    if name.startswith("__"):
        raise AttributeError(name)
    return type(name, (), {"__init__": lambda self, *args, **options: None})
"""
TRAIN = """
import sys
from sapnet_pipe.pipeline.cli import run
broken, labels, out, engine = sys.argv[1:]
if broken:
    sys.modules[broken] = None
labels_and_images = ["--labels", labels + "/labels.json", "--images", labels + "/images"]
fast = ["--preset", "demo", "--set", "train.max_iterations=1", "--device", "cpu"]
sys.exit(run(["train-seg", *labels_and_images, "--out", out, "--engine", engine, *fast]))
"""


def _stub(folder: Path, **broken: str) -> Path:
    """A folder with a complete `detectron2`; ``broken`` are sources that replace one of its modules' (. as __)."""
    for module in REQUIRED:
        place = folder.joinpath(*module.split("."))
        for package in (place, *place.parents[: module.count(".")]):
            package.mkdir(parents=True, exist_ok=True)
            (package / "__init__.py").write_text(ANY_NAME)
    for module, source in broken.items():
        folder.joinpath("detectron2", *module.split("__"), "__init__.py").write_text(source)
    return folder


def _train(tmp_path: Path, stub: Path, engine: str, broken: str = "") -> subprocess.CompletedProcess[str]:
    write_scenes(tmp_path / "s", [2])
    command = [sys.executable, "-c", TRAIN, broken, str(tmp_path / "s"), str(tmp_path / "run"), engine]
    return subprocess.run(command, env=child_environment(stub), capture_output=True, text=True, check=False)


@pytest.mark.parametrize("engine", ["auto", "detectron2"])
def test_a_broken_import_of_ours_is_our_fault_and_no_reason_for_another_engine(tmp_path: Path, engine: str) -> None:
    broken = "sapnet_pipe.stages.segment.detectron2.trainer"
    done = _train(tmp_path, _stub(tmp_path / "stub"), engine, broken)
    assert done.returncode == 1, done.stderr
    assert "Traceback" in done.stderr
    assert broken in done.stderr
    assert "a fault of sapnet-pipe" in done.stderr
    assert "takes builtin" not in done.stderr


def test_auto_leaves_a_detectron2_that_cannot_be_imported_and_says_why(tmp_path: Path) -> None:
    done = _train(tmp_path, _stub(tmp_path / "stub", engine="raise OSError('no\\n  _C.so')"), "auto")
    assert done.returncode == 0, done.stderr
    assert "engine auto takes builtin, since detectron2 cannot be imported (OSError: no _C.so): " in done.stderr


def test_a_detectron2_that_was_asked_for_and_cannot_be_imported_is_refused_in_one_line(tmp_path: Path) -> None:
    stub = _stub(tmp_path / "stub", structures="class BitMasks: ...")
    done = _train(tmp_path, stub, "detectron2")
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert "module 'detectron2.structures' has no attribute 'BoxMode'" in line
    assert "Install it: pip install --no-build-isolation 'git+" in line


def test_everything_that_the_host_takes_from_detectron2_is_probed() -> None:
    taken = set()
    for path in HOST.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("detectron2"):
                taken |= {f"{node.module}.{alias.name}" for alias in node.names}
            elif isinstance(node, ast.Import):
                taken |= {alias.name for alias in node.names if alias.name.startswith("detectron2")}
    probed = {f"{module}.{name}" for module, names in REQUIRED.items() for name in names}
    assert taken == probed | {module for module, names in REQUIRED.items() if not names}


@pytest.fixture
def no_detectron2(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine without it."""
    for name in [name for name in sys.modules if name.split(".")[0] == "detectron2"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "detectron2", None)


@pytest.mark.usefixtures("no_detectron2")
def test_auto_says_in_one_line_that_there_is_no_detectron2() -> None:
    engine, line = choose_engine("auto")
    assert engine == "builtin"
    assert "auto takes builtin, since detectron2 cannot be imported (ModuleNotFoundError: " in line
    assert "\n" not in line


@pytest.mark.usefixtures("no_detectron2")
def test_a_run_that_detectron2_began_is_not_resumed_by_another_engine() -> None:
    with pytest.raises(UserError, match="engine = detectron2"):
        choose_engine("auto", begun="detectron2")
    assert choose_engine("auto", begun="builtin")[0] == "builtin"
