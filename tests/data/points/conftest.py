import pytest
from PIL import Image

from tests.data.points.test_tool_files import SIZES


@pytest.fixture
def photographs(tmp_path):
    folder = tmp_path / "photographs"
    folder.mkdir()
    for name, (height, width) in SIZES.items():
        Image.new("RGB", (width, height)).save(folder / name)
    return folder
