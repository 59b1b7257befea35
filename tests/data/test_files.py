import os
import sys
from pathlib import Path

import pytest

from sapnet_pipe.data.errors import UserError
from sapnet_pipe.data.files import read_json, sha256_file
from sapnet_pipe.data.points.tool_file import points_file

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="pipes and devices of POSIX systems")


def test_pipes_and_devices_are_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        for read in (read_json, sha256_file, lambda path: points_file(path).content):
            with pytest.raises(UserError, match="a pipe or a device, not a file"):
                read(path)


def test_a_pipe_that_a_shell_has_opened_is_read() -> None:
    reader, writer = os.pipe()
    os.write(writer, b"{}")
    os.close(writer)
    try:
        assert points_file(Path(f"/dev/fd/{reader}")).content == b"{}"
    finally:
        os.close(reader)
