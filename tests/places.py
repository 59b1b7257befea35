"""Where the tests find things: this repository, golden vectors, and the photographs that are not committed."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
GOLDEN = ROOT / "tests" / "golden"
SHARED = Path(os.environ.get("SAPNET_SHARED", ROOT.parent / "shared"))


def child_environment(*folders: Path | str) -> dict[str, str]:
    """The environment of a Python process that a test starts: `folders` and this repository's tests are importable."""
    paths = [*map(str, folders), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
