"""Standard input, output and error as they were given: closed, on a full disk, or a pipe that nobody reads any more."""

import errno
import io
import os
import sys
from typing import Any

from sapnet_pipe.data.errors import UserError


class _Outlet(io.FileIO):
    """Standard output or error; once it takes nothing more, what follows goes nowhere."""

    def write(self, text: Any, /) -> int | None:  # type: ignore[override]
        """Write to the file.

        Raises: UserError if it is standard output and cannot be written; a pipe that was closed wants no more, which
            is no fault, and what is wrong with standard error there is nowhere to say.
        """
        try:
            return super().write(text)
        except OSError as error:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            if error.errno == errno.EPIPE or self.fileno() != 1:
                return len(text)
            shown, problem = bytes(text).decode(errors="replace"), f"which cannot be written there ({error.strerror})"
            hint = "Direct it to another file; the files of the result are not touched by this"
            raise UserError("standard output", "text", shown, problem, hint) from error


def open_standard_files() -> None:
    """Open those of the three that a daemon was started without, which otherwise other files become, and guard two."""
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
        if getattr(sys, name) is None:
            setattr(sys, name, open(descriptor, "r" if descriptor == 0 else "w", closefd=False))  # noqa: SIM115
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        given = getattr(sys, name)
        if not given.isatty():
            raw = io.BufferedWriter(_Outlet(descriptor, "w", closefd=False))
            lines = given.line_buffering
            # A file name that is not UTF-8 is written as the bytes that it has.
            errors = "surrogateescape" if given.encoding.lower() == "utf-8" else "backslashreplace"
            guarded = io.TextIOWrapper(raw, given.encoding, errors, line_buffering=lines, write_through=lines)
            setattr(sys, name, guarded)
