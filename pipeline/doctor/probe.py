"""Trying packages in another process: what they are, whether they work, and what kills a process that imports them."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_CHILD = Path(__file__).with_name("probe_child.py")
_SECONDS = 300


@dataclass(frozen=True)
class Probe:
    """How a package answered.

    Attributes:
        version: As the module says; empty if it says none or could not be imported.
        missing: There is no such module.
        error: Why it does not work, one line; None if it does.
        details: What else was asked of it.
    """

    name: str
    version: str
    missing: bool
    error: str | None
    details: Mapping[str, Any]


def probe_packages(names: Sequence[str], *, speed: str | None = None) -> dict[str, Probe]:
    """Import and try modules outside this process.

    Args:
        speed: Device (or auto) whose arithmetic is to be timed, or None.
    Returns: by name; a module that ends the process, or does not end, is one that does not work.
    """
    found: dict[str, Probe] = {}
    left = list(names)
    while left:
        lines, ending = _ask(left, speed)
        for line in lines:
            if "name" in line:
                found[line["name"]] = _probe(line)
        begun = [line["begin"] for line in lines if "begin" in line]
        if begun and begun[-1] not in found:
            found[begun[-1]] = Probe(begun[-1], "", False, f"importing it {ending}", {})
        elif len(found) < len(names) and not begun:
            return found | {name: Probe(name, "", False, f"the process that imports it {ending}", {}) for name in left}
        left = [name for name in names if name not in found]
    return found


def _ask(names: Sequence[str], speed: str | None) -> tuple[list[dict[str, Any]], str]:
    """The lines that the child said, and how it ended."""
    task = json.dumps({"path": sys.path, "names": names, "speed": speed})
    # Isolated, so that no file of the working directory is taken for a module of Python's own before our path is set.
    command = [sys.executable, "-I", "-c", _CHILD.read_text(encoding="utf-8")]
    try:
        done = subprocess.run(
            command, input=task, capture_output=True, text=True, timeout=_SECONDS, check=False, env=os.environ.copy()
        )
        output, code = done.stdout, done.returncode
    except subprocess.TimeoutExpired as error:
        output = error.stdout.decode() if isinstance(error.stdout, bytes) else error.stdout or ""
        return _lines(output), f"does not end within {_SECONDS} seconds"
    return _lines(output), f"ends the process (signal {-code})" if code < 0 else f"ends the process (exit code {code})"


def _lines(output: str) -> list[dict[str, Any]]:
    found = []
    for text in output.splitlines():
        try:
            line = json.loads(text)
        except ValueError:
            continue  # a line that broke off
        if isinstance(line, dict):
            found.append(line)
    return found


def _probe(line: dict[str, Any]) -> Probe:
    said = dict(line)
    name, version, error = said.pop("name"), said.pop("version", ""), said.pop("error", None)
    missing = bool(said.pop("missing", False))
    return Probe(name, version, missing, None if error is None else " ".join(error.split()), said)
