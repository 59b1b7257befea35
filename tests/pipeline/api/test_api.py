"""The public names of `import sapnet_pipe`: quick to import, documented, and known to type checkers."""

import inspect
import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from typing_extensions import assert_type

import sapnet_pipe
from sapnet_pipe.data.bag_store.store import BagStore
from tests.places import child_environment

NAMES = [name for name in sapnet_pipe.__all__ if name != "__version__"]
HEAVY = ("torch", "numpy", "pyarrow", "cv2", "pydantic", "typer", "segment_anything")


def python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=child_environment(), check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_the_package_imports_nothing_large() -> None:
    found = python("import sys, json, sapnet_pipe; print(json.dumps(sorted(sys.modules)))")
    assert set(json.loads(found)).isdisjoint(HEAVY)


def test_errors_and_the_version_are_to_be_had_without_torch() -> None:
    python("import sys; from sapnet_pipe import UserError, __version__; assert 'torch' not in sys.modules")


def test_every_name_is_listed_and_found_and_no_other() -> None:
    assert set(sapnet_pipe.__all__) <= set(dir(sapnet_pipe))
    assert list(sapnet_pipe.__all__) == sorted(sapnet_pipe.__all__)
    assert all(getattr(sapnet_pipe, name) is getattr(sapnet_pipe, name) for name in sapnet_pipe.__all__)
    with pytest.raises(AttributeError, match="no attribute 'selct'"):
        sapnet_pipe.selct  # type: ignore[attr-defined]  # noqa: B018


def test_the_version_is_that_of_the_package() -> None:
    assert sapnet_pipe.__version__[0].isdigit()


@pytest.mark.parametrize("name", NAMES)
def test_every_name_has_a_docstring_and_every_function_has_types(name: str) -> None:
    value = getattr(sapnet_pipe, name)
    assert inspect.getdoc(value)
    functions = [value] if inspect.isfunction(value) else _public_methods(value)
    assert functions or inspect.isclass(value)
    for function in functions:
        assert inspect.getdoc(function), function.__qualname__
        signature = inspect.signature(function)
        assert signature.return_annotation is not inspect.Signature.empty, function.__qualname__
        untyped = [p.name for p in signature.parameters.values() if p.annotation is inspect.Parameter.empty]
        assert untyped in ([], ["self"]), function.__qualname__


def _as_type_checkers_see_them() -> None:
    """Never called: mypy checks it, and that each ignored error is one."""
    image = np.zeros((8, 8, 3), np.uint8)
    assert_type(sapnet_pipe.load_sam("tiny", recipe="multimask").make_bags(image, (1, 2)), list[sapnet_pipe.Bag])
    assert_type(sapnet_pipe.load_model("run").predict(image).boxes_xyxy, NDArray[np.float32])
    assert_type(sapnet_pipe.open_bags("bags"), BagStore)
    assert_type(sapnet_pipe.select("bags", "images", "out"), dict[str, Any])
    assert_type(sapnet_pipe.__version__, str)
    sapnet_pipe.load_sam(checkpoint=2)  # type: ignore[arg-type]
    sapnet_pipe.load_sm()  # type: ignore[attr-defined]


def _public_methods(kind: type) -> list[Any]:
    return [
        method
        for name, method in vars(kind).items()
        if inspect.isfunction(method) and not name.startswith("_") and method.__module__ == kind.__module__
    ]
