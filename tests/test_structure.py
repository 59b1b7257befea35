"""The house rules that a machine can check."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FLOORS = ("data", "stages", "pipeline")
STAGES = ("bags", "select", "segment")
SOURCES = sorted(path for floor in FLOORS for path in (ROOT / floor).rglob("*.py"))
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60


def test_there_are_sources_to_check() -> None:
    assert len(SOURCES) > 30


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_run_only_downward(path: Path) -> None:
    place = path.relative_to(ROOT).with_suffix("").parts
    floor = FLOORS.index(place[0])
    for module in _imported_modules(path):
        parts = module.split(".")
        if parts[0] in FLOORS:
            assert FLOORS.index(parts[0]) <= floor, f"{module} is imported from below"
        if place[0] == "stages" and parts[0] == "stages" and len(parts) > 1 and parts[1] in STAGES:
            assert len(place) > 2, f"{module} is imported by a module that the stages share"
            assert parts[1] == place[1], f"{module} is imported by another stage"


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


def test_every_public_function_and_class_has_a_docstring() -> None:
    bare = [
        f"{path.relative_to(ROOT)}: {node.name}"
        for path in SOURCES
        for node in ast.parse(path.read_text()).body
        if isinstance(node, (ast.FunctionDef, ast.ClassDef))
        and not node.name.startswith("_")
        and ast.get_docstring(node) is None
    ]
    assert not bare


def test_only_the_adapters_import_the_frameworks() -> None:
    allowed = {
        "segment_anything": {
            f"stages/bags/{name}.py"
            for name in ("sam", "sam_encoder", "sam_exact_encoder", "tiny_sam", "tiny_training")
        },
        "ray": {"stages/bags/ray_workers.py"},
        "detectron2": {str(path.relative_to(ROOT)) for path in (ROOT / "stages/segment/d2").glob("*.py")},
    }
    for path in SOURCES:
        for module in _imported_modules(path):
            framework = module.split(".")[0]
            if framework in allowed:
                assert str(path.relative_to(ROOT)) in allowed[framework]


def _imported_modules(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
