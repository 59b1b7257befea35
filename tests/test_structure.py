"""The house rules that a machine can check."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.places import ROOT

PACKAGE = "sapnet_pipe"
FLOORS = ("data", "stages", "pipeline")
STAGES = ("bags", "select", "segment")
SOURCES = sorted(path for floor in FLOORS for path in (ROOT / floor).rglob("*.py"))
RUN_FILES = ROOT / "stages" / "training" / "run_files.py"
OTHER_MEANINGS = {"features", "checkpoints"}  # a setting; a folder of torch.hub
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
DOCTOR = "pipeline/doctor/probe_child.py"  # tries every package in a process of its own
FRAMEWORKS = {
    "segment_anything": ("stages/bags/sam", "stages/bags/tiny_sam", DOCTOR),
    "ray": ("stages/bags/ray_workers.py",),
    "detectron2": ("stages/segment/detectron2", DOCTOR),
}


def test_there_are_sources_to_check() -> None:
    assert len(SOURCES) > 30


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_run_only_downward(path: Path) -> None:
    faults = list(_upward_imports(path.relative_to(ROOT), path.read_text()))
    assert not faults


@pytest.mark.parametrize(
    ("place", "line", "problem"),
    [
        ("data/boxes.py", "from sapnet_pipe.stages.training.devices import pick_device", "from below"),
        ("stages/bags/run.py", "from sapnet_pipe.pipeline import report", "from below"),
        ("stages/bags/run.py", "from sapnet_pipe.stages.select.config import SelectConfig", "another stage"),
        ("stages/training/loop.py", "import sapnet_pipe.stages.select.run", "share"),
        ("stages/bags/run.py", "def f():\n    from sapnet_pipe.pipeline.cli import main", "from below"),
        ("data/boxes.py", "from data.files import read_json", "without its package"),
        ("pipeline/cli.py", "import stages.bags.run", "without its package"),
        ("data/boxes.py", 'importlib.import_module("sapnet_pipe.stages.bags.run")', "from below"),
        ("data/boxes.py", "from .files import read_json", "relative"),
    ],
)
def test_an_import_that_breaks_the_rule_is_found(place: str, line: str, problem: str) -> None:
    (fault,) = _upward_imports(Path(place), line)
    assert problem in fault


def test_no_module_imports_itself_by_way_of_others() -> None:
    """Imports inside functions count: they run too."""
    circles = _on_circles({_module_name(path): path.read_text() for path in SOURCES})
    assert not circles, f"these lie on circles or lead to one: {sorted(circles)}"


@pytest.mark.parametrize(
    "line",
    [
        "from sapnet_pipe.data.files import read_json",
        "def f():\n    import sapnet_pipe.data.files",
        'import importlib\nimportlib.import_module("sapnet_pipe.data.files")',
        'def f():\n    return import_module("sapnet_pipe.data.files").read_json',
        '__import__("sapnet_pipe.data.files")',
    ],
)
def test_a_circle_is_found_however_it_is_closed(line: str) -> None:
    sources = {"sapnet_pipe.data.files": "from sapnet_pipe.data import errors", "sapnet_pipe.data.errors": line}
    assert _on_circles(sources) == sources.keys()
    assert not _on_circles({**sources, "sapnet_pipe.data.errors": "import os"})


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_stay_short(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= MAX_FILE_LINES
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= MAX_FUNCTION_LINES, f"{node.name} has {length} lines"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_weights_are_only_ever_loaded_as_weights(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
            safe = [k for k in node.keywords if k.arg == "weights_only" and ast.unparse(k.value) == "True"]
            assert safe, f"line {node.lineno}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_names_of_run_files_are_spelt_in_one_module(path: Path) -> None:
    if path == RUN_FILES or path == ROOT / "data/bag_store/manifest.py":  # a store has a manifest of its own
        return
    found = sorted(_run_file_names(path.read_text()) & _run_file_names(RUN_FILES.read_text()))
    assert not found, f"take these from stages/training/run_files.py: {found}"


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ('path = out / "metrics.jsonl"', {"metrics.jsonl"}),
        ('path = out / "checkpoints" / "last.pt"', {"last.pt"}),
        ('path = f"{out}/inference/truth.json"', {"inference", "truth.json"}),
        ('def f():\n    """metrics.jsonl"""', set()),
        ('help = "Where metrics.jsonl lies."', set()),
    ],
)
def test_a_name_of_a_run_file_is_found_in_code_and_not_in_prose(line: str, found: set[str]) -> None:
    assert _run_file_names(line) & _run_file_names(RUN_FILES.read_text()) == found


def test_every_public_function_and_class_has_a_docstring() -> None:
    bare = [
        f"{path.relative_to(ROOT)}: {node.name}"
        for path in SOURCES
        for node in ast.parse(path.read_text()).body
        if isinstance(node, (ast.FunctionDef, ast.ClassDef))
        and not node.name.startswith("_")
        and "overload" not in map(ast.unparse, node.decorator_list)
        and ast.get_docstring(node) is None
    ]
    assert not bare


def test_only_the_adapters_import_the_frameworks() -> None:
    for path in SOURCES:
        place = str(path.relative_to(ROOT))
        for module in _imported_modules(path.read_text()):
            homes = FRAMEWORKS.get(module.split(".")[0], ("",))
            assert place.startswith(homes), f"{place} imports {module}"


def _run_file_names(text: str) -> set[str]:
    """The parts of all paths that the strings of a source spell out; prose, which has spaces, is none."""
    tree = ast.parse(text)
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    strings = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    words = [str(node.value) for node in strings if id(node) not in prose and not re.search(r"\s", str(node.value))]
    return {part for word in words for part in word.split("/")} - {"", *OTHER_MEANINGS}


def _upward_imports(place: Path, text: str) -> Iterator[str]:
    """What is wrong with the imports of a file that stands at `place` below the root."""
    own = place.with_suffix("").parts
    for module in dict.fromkeys(_imported_modules(text)):
        parts = module.split(".")
        if module.startswith("."):
            yield f"{module}: a relative import"
        elif parts[0] in FLOORS:
            yield f"{module} is imported without its package"
        elif parts[0] != PACKAGE or len(parts) == 1:
            continue
        elif parts[1] not in FLOORS:
            yield f"{module} is imported by the floors"
        elif FLOORS.index(parts[1]) > FLOORS.index(own[0]):
            yield f"{module} is imported from below"
        elif own[0] == parts[1] == "stages" and parts[2] in STAGES and parts[2] != own[1]:
            yield f"{module} is imported by " + ("another stage" if own[1] in STAGES else "what the stages share")


def _imported_modules(text: str) -> Iterator[str]:
    """Every module that the text imports; of ``from a import b`` only a, as b may be a function."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.Call):
            yield from _imported_by_name(node)
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""] if (node.module or "").count(".") > 1 or node.level else _with_names(node)
            yield from ("." * node.level + name for name in names)


def _with_names(node: ast.ImportFrom) -> list[str]:
    return [f"{node.module}.{alias.name}" for alias in node.names]


def _imported_by_name(call: ast.Call) -> list[str]:
    """The module of ``importlib.import_module("...")`` and ``__import__("...")``."""
    imports = ast.unparse(call.func).split(".")[-1] in ("import_module", "__import__")
    first = call.args[0] if imports and call.args else None
    return [first.value] if isinstance(first, ast.Constant) and isinstance(first.value, str) else []


def _on_circles(sources: dict[str, str]) -> set[str]:
    """The modules, given as name -> source, that lie on a circle of imports or lead to one."""
    edges = {name: _own_imports(text) & sources.keys() - {name} for name, text in sources.items()}
    while leaves := {name for name, targets in edges.items() if not targets & edges.keys()}:
        edges = {name: targets for name, targets in edges.items() if name not in leaves}
    return set(edges)


def _own_imports(text: str) -> set[str]:
    """Every module that the text imports; of ``from a import b`` both a and a.b, which may be a module."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            found.update([node.module or "", *_with_names(node)])
        elif isinstance(node, ast.Call):
            found.update(_imported_by_name(node))
    return found


def _module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join((PACKAGE, *(parts[:-1] if parts[-1] == "__init__" else parts)))
