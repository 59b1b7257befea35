"""Ways to spoil the files of a finished job, each returned as a function of the job's folder."""

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

Spoiler = Callable[[Path], None]
TRAP = "the-trap-was-sprung"


class RunsCode:
    """Pickled, it makes a file when it is loaded without care."""

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {TRAP}",)


def edit(name: str, change: Callable[[Any], Any]) -> Spoiler:
    """Change the content of a JSON file: in place, or to what `change` returns."""

    def spoil(job: Path) -> None:
        content = json.loads((job / name).read_text())
        changed = change(content)
        (job / name).write_text(json.dumps(content if changed is None else changed))

    return spoil


def put(name: str, *path: str | int, value: Any) -> Spoiler:
    """Set one value in a JSON file."""

    def change(content: Any) -> None:
        for key in path[:-1]:
            content = content[key]
        content[path[-1]] = value

    return edit(name, change)


def drop(name: str, *path: str | int) -> Spoiler:
    """Remove one key from a JSON file."""

    def change(content: Any) -> None:
        for key in path[:-1]:
            content = content[key]
        del content[path[-1]]

    return edit(name, change)


def put_all(name: str, **values: Any) -> Spoiler:
    """Set values in every annotation."""
    return edit(name, lambda content: [entry.update(values) for entry in content["annotations"]] and None)


def rename_images(content: Any) -> None:
    """For `edit`: give every image another file name."""
    for entry in content["images"]:
        entry["file_name"] = f"other-{entry['file_name']}"


def write(name: str, content: str | bytes) -> Spoiler:
    """Write a file, whatever was there."""
    data = content.encode() if isinstance(content, str) else content

    def spoil(job: Path) -> None:
        (job / name).write_bytes(data)

    return spoil


def remove(name: str) -> Spoiler:
    """Remove a file or a folder."""

    def spoil(job: Path) -> None:
        path = job / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return spoil


def cut(name: str, share: float = 0.5) -> Spoiler:
    """Keep only the first part of a file."""

    def spoil(job: Path) -> None:
        content = (job / name).read_bytes()
        (job / name).write_bytes(content[: int(len(content) * share)])

    return spoil


def flip_bytes(name: str) -> Spoiler:
    """Damage the middle of a file and leave its length."""

    def spoil(job: Path) -> None:
        content = bytearray((job / name).read_bytes())
        middle = len(content) // 2
        content[middle : middle + 64] = bytes(255 - byte for byte in content[middle : middle + 64])
        (job / name).write_bytes(content)

    return spoil


def copy(source: str, target: str) -> Spoiler:
    """Put a file or folder of the job in another place."""

    def spoil(job: Path) -> None:
        (shutil.copytree if (job / source).is_dir() else shutil.copyfile)(job / source, job / target)

    return spoil


def image(name: str, height: int, width: int) -> Spoiler:
    """Write a photograph of another size."""
    return lambda job: Image.fromarray(np.zeros((height, width, 3), np.uint8)).save(job / name)


def trap(name: str) -> Spoiler:
    """Put a pickle that runs code in the place of a weights file, as the old and as the new format of torch."""

    def spoil(job: Path) -> None:
        (job / name).parent.mkdir(exist_ok=True)
        if name.endswith(".pkl"):
            (job / name).write_bytes(pickle.dumps(RunsCode()))
        else:
            torch.save({"model": RunsCode()}, job / name)

    return spoil


def foreign_weights(name: str) -> Spoiler:
    """Put a sound file of tensors, but of another program, in the place of a weights file."""
    return lambda job: torch.save({"weight": torch.zeros(3)}, job / name)


def folder(name: str) -> Spoiler:
    """Make an empty folder."""
    return lambda job: (job / name).mkdir()


def both(*spoilers: Spoiler) -> Spoiler:
    """One after the other."""

    def spoil(job: Path) -> None:
        for each in spoilers:
            each(job)

    return spoil


def nothing(job: Path) -> None:
    """The files are sound: the command line is at fault."""
