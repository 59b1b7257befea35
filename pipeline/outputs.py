"""Results are never overwritten: what a command is to write must not be there yet."""

import os
from pathlib import Path

from data.errors import UserError
from data.files import disk_errors


def require_new_file(path: Path, option: str = "--out") -> None:
    """Check before the work that the file can be written after it.

    Raises: UserError if it exists, or if its folder cannot be made or written.
    """
    if path.exists() or path.is_symlink():
        raise UserError(option, "path", str(path), "which exists", "Name a new file, or move the old one away")
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    if not os.access(path.parent, os.W_OK):
        raise UserError(option, "path", str(path), "whose folder may not be written", "Choose another folder")


def require_folder(path: Path, option: str) -> None:
    """Raises: UserError unless the path is a folder."""
    if not path.is_dir():
        problem = "a file, not a folder" if path.exists() else "which does not exist"
        raise UserError(option, "path", str(path), problem, "Give the folder of the photographs")


def require_empty_folder(path: Path, option: str = "--out") -> None:
    """Make the folder. Raises: UserError if it holds anything, is a file, or cannot be made."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise UserError(option, "path", str(path), "which is taken", "Name a new folder, or move the old one away")
    with disk_errors(path):
        path.mkdir(parents=True, exist_ok=True)
