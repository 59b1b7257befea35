"""A test of the tests: every array of the committed golden vectors is asked for by one of them."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np

from tests.golden_record import LOG
from tests.places import GOLDEN, ROOT, child_environment

READERS = re.compile(r"golden_cases import .*\bcases\b|golden_solov2 import|Recorded\(")
NO_VECTORS = {"num_cases"}  # what the readers count by


def golden_modules() -> list[str]:
    """The test modules that compare golden vectors with our code; the host's repeat those of SOLOv2."""
    found = [path for path in sorted((ROOT / "tests").rglob("test_*.py")) if "detectron2" not in path.parts]
    own = [path for path in found if READERS.search(path.read_text(encoding="utf-8")) and path != Path(__file__)]
    return [str(path.relative_to(ROOT)) for path in own if path.stem != "test_select_golden_batched"]


def test_every_golden_array_is_read(tmp_path: Path) -> None:
    log = tmp_path / "read.txt"
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *golden_modules()]
    environment = {**child_environment(), LOG: str(log)}
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout[-2000:]
    read = set(log.read_text().splitlines())
    there = set()
    for file in GOLDEN.glob("*/*.npz"):
        with np.load(file) as arrays:
            names = {re.sub(r"^case\d+_", "", key) for key in arrays.files}
        there |= {f"{file.parent.name}/{file.stem} {name}" for name in names - NO_VECTORS}
    assert len(there) > 800
    unread = sorted(there - read)
    assert unread == [], ", ".join(unread)


def test_a_name_that_nobody_asks_for_is_found(tmp_path: Path) -> None:
    script = "from tests.golden_record import Recorded\nRecorded('a/b', {'x': 1, 'y': 2})['x']\n"
    log = tmp_path / "read.txt"
    environment = {**child_environment(), LOG: str(log), "PATH": os.environ["PATH"]}
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=environment, check=True)
    assert log.read_text().split("\n") == ["a/b x", ""]
