"""Every command of docs/points.md runs as printed, on files as the tools write them."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sapnet_pipe.data.points.reader import FORMATS, read_points
from sapnet_pipe.pipeline.cli import run
from tests.data.points import test_tool_files as tools
from tests.pipeline.test_clicks_commands import predictions

PAGE = (Path(__file__).parents[1] / "docs" / "points.md").read_text()
COMMANDS = re.findall(r"`(sapnet-pipe points .*?)`", PAGE)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    for name, (height, width) in tools.SIZES.items():
        Image.new("RGB", (width, height)).save(tmp_path / "photos" / name)
    rows = "".join(f"{name},{x},{y},{category}\n" for name, x, y, category in tools.CLICKS)
    (tmp_path / "clicks.csv").write_text("file_name,x,y,category\n" + rows)
    for write in (tools.cvat, tools.label_studio, tools.via, tools.dotdotgoose, tools.fiftyone):
        write(tmp_path)
    folders = {"labelme": tools.labelme, "cell-counter": tools.cell_counter, "qupath": tools.geojson}
    for name, write in (folders | {"darwin": tools.darwin}).items():
        (tmp_path / name).mkdir()
        write(tmp_path / name)
    (tmp_path / "napari").mkdir()
    (tmp_path / "dots").mkdir()
    for photo, (height, width) in tools.SIZES.items():
        spots = [(int(x), int(y)) for x, y, _ in tools.of(photo)]
        lines = "".join(f"{number},{y},{x}\n" for number, (x, y) in enumerate(spots))
        (tmp_path / "napari" / f"{photo[0]}.csv").write_text("index,axis-0,axis-1\n" + lines)
        dots = np.zeros((height, width), np.uint8)
        for x, y in spots:
            dots[y, x] = 255
        Image.fromarray(dots).save(tmp_path / "dots" / f"{photo[0]}_dots.png")
    return tmp_path


def test_every_form_has_a_command():
    named = set(re.findall(r"\| `([a-z][a-z-]*)` \|\n", PAGE))
    assert named == FORMATS.keys() - {"coco"}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_page_writes_the_three_points(folder, command):
    arguments = shlex.split(command)[1:]
    assert run(arguments) == 0
    points = read_points(Path(arguments[-1]))
    spots = [(points.images[key].file_name, *xy) for key, xy in zip(points.image_id, points.xy.tolist(), strict=True)]
    assert [spot[0] for spot in sorted(spots)] == ["a.png", "b.png", "b.png"]
    assert np.allclose([spot[1:] for spot in sorted(spots)], sorted(click[1:3] for click in tools.CLICKS), atol=1e-3)


def test_the_verdict_of_the_page_runs_as_printed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    lines = ["file_name,x,y,category"]
    for number in range(10):
        Image.new("RGB", (40, 20)).save(tmp_path / "photos" / f"{number}.png")
        lines += [f"{number}.png,5,5,cat", f"{number}.png,30,10,dog"]
    (tmp_path / "clicks.csv").write_text("\n".join(lines) + "\n")
    commands = re.findall(r"^    (sapnet-pipe .*)$", PAGE, re.MULTILINE)
    assert len(commands) == 3
    for command in commands:
        held = tmp_path / "points.held_out.json"
        if held.exists():
            predictions(tmp_path, image_id=1 + int(next(iter(read_points(held).images.values())).file_name[0]))
        assert run(shlex.split(command)[1:]) == 0, command
