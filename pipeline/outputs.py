"""Results are never overwritten: what a command is to write must not be there yet."""

import os
from pathlib import Path

from sapnet_pipe.data.errors import UserError
from sapnet_pipe.data.files import disk_errors
from sapnet_pipe.data.folder_lock import contents


def require_new_file(path: Path, option: str = "--out") -> None:
    """Check before the work that the file can be written after it; nothing is made yet.

    Raises: UserError if it exists, or if its folder cannot be made or written.
    """
    with disk_errors(path):
        exists = path.exists() or path.is_symlink()
    if exists:
        raise UserError(option, "path", str(path), "which exists", "Name a new file, or move the old one away")
    _require_writable(path, option)


def require_new_folder(path: Path, option: str = "--out") -> None:
    """Check before the work that the folder can be made and filled after it; nothing is made yet.

    Raises: UserError if it holds anything, is a file, or cannot be made.
    """
    with disk_errors(path):
        taken = path.exists() and (not path.is_dir() or bool(contents(path)))
    if taken or (path.is_symlink() and not path.exists()):
        raise UserError(option, "path", str(path), "which is taken", "Name a new folder, or move the old one away")
    _require_writable(path, option)


def require_empty_folder(path: Path, option: str = "--out") -> None:
    """Make the folder. Raises: UserError if it holds anything, is a file, or cannot be made."""
    require_new_folder(path, option)
    with disk_errors(path):
        path.mkdir(parents=True, exist_ok=True)


def require_folder(path: Path, option: str) -> None:
    """Raises: UserError unless the path is a folder."""
    with disk_errors(path):
        if path.is_dir():
            return
        problem = "a file, not a folder" if path.exists() else "which does not exist"
        raise UserError(option, "path", str(path), problem, "Give the folder of the photographs")


def _require_writable(path: Path, option: str) -> None:
    """Look at the nearest folder above `path` that exists."""
    with disk_errors(path):
        folder = next(folder for folder in path.absolute().parents if folder.exists())
    if not folder.is_dir():
        problem = f"but {folder} is a file, not a folder"
        raise UserError(option, "path", str(path), problem, "Choose another folder")
    if not os.access(folder, os.W_OK):
        raise UserError(option, "path", str(path), f"but {folder} may not be written", "Choose another folder")
