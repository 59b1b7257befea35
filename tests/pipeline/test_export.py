"""`export` from end to end: every form, the commands of its page as printed, and what the user gets wrong."""

import json
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest

from sapnet_pipe.data.exports.forms import FORMS
from sapnet_pipe.data.exports.record import ExportOptions
from sapnet_pipe.data.files import read_json, write_json
from sapnet_pipe.pipeline.cli import run
from sapnet_pipe.pipeline.commands.export import ExportSettings, FormName
from tests.pipeline.one_line import check_message
from tests.pipeline.toy_job import snapshot, write_toy
from tests.places import ROOT

EXPORT = "export --labels truth.json --images images"


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Photographs, true masks, and the same as predictions; the working directory."""
    write_toy(tmp_path)
    truth = read_json(tmp_path / "truth.json")
    results = [
        {key: entry[key] for key in ("image_id", "category_id", "segmentation")} | {"score": 0.125 * entry["id"]}
        for entry in truth["annotations"]
    ]
    write_json(tmp_path / "predictions.json", results)
    write_json(tmp_path / "predictions.images.json", truth | {"annotations": []})
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def result_of(capfd: pytest.CaptureFixture[str]) -> Callable[[str], dict[str, Any]]:
    """The result of a command that ends well."""

    def call(command: str) -> dict[str, Any]:
        capfd.readouterr()
        assert run([*shlex.split(command), "--quiet", "--json"]) == 0
        result: dict[str, Any] = json.loads(capfd.readouterr().out)
        return result

    return call


def test_what_the_command_declares_is_what_there_is() -> None:
    assert get_args(FormName) == tuple(FORMS)
    defaults = ExportSettings().model_dump()
    assert ExportOptions(**{key: defaults[key] for key in ExportOptions.__dataclass_fields__}) == ExportOptions()


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_written_and_nothing_is_lost_of_boxes(
    form: str, toy: Path, result_of: Callable[[str], dict[str, Any]]
) -> None:
    result = result_of(f"{EXPORT} --to {form} --out made/{form}")
    assert (result["form"], result["images"], result["objects"]) == (form, 4, 8)
    assert result["iou_mean"] == result["iou_worst"] == 1
    assert (toy / result["written"]).exists()
    assert sorted(path.name for path in (toy / "made").iterdir()) == [form], "no temporary file is left"


@pytest.mark.parametrize("form", ["yolo", "cvat"])
def test_what_is_there_is_not_overwritten(form: str, toy: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(shlex.split(f"{EXPORT} --to {form} --out made --quiet")) == 0
    before = snapshot(toy)
    assert run(shlex.split(f"{EXPORT} --to {form} --out made --quiet")) == 2
    check_message(capfd.readouterr().err, "--out * made * new")
    assert snapshot(toy) == before


def test_predictions_below_the_score_are_left_out_and_counted(
    toy: Path, result_of: Callable[[str], dict[str, Any]]
) -> None:
    result = result_of("export --predictions predictions.json --to yolo --out made --min-score 0.5")
    assert (result["objects"], result["left_out_below_min_score"], result["scores_dropped"]) == (5, 3, 5)
    assert any("photographs are not in the result" in note for note in result["notes"])


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("export --to yolo --out made", "--labels or --predictions = neither * Give exactly one"),
        (f"{EXPORT} --predictions predictions.json --to yolo --out made", "= both * Give exactly one"),
        (f"{EXPORT} --to coco --out made", "--to * coco * coco-polygons"),
        (f"{EXPORT} --to yolo --out s3://bucket/made", "--out: path * this machine"),
        ("export --labels truth.json --images none --to yolo --out made", "--images * none * does not exist"),
        ("export --labels none.json --to yolo --out made", "none.json * does not exist"),
        ("export --predictions truth.json --to yolo --out made", "truth.json * truth.images.json * --images-json"),
        (f"{EXPORT} --to yolo --out made --val-share 1", "--val-share * 1 * less than 1"),
        (f"{EXPORT} --to yolo --out truth.json/made", "truth.json * is a file"),
    ],
)
def test_what_the_user_gets_wrong_is_one_line_and_leaves_nothing(
    command: str, message: str, toy: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = snapshot(toy)
    assert run([*shlex.split(command), "--quiet"]) == 2
    check_message(capfd.readouterr().err, message)
    assert snapshot(toy) == before


def test_a_mask_that_cannot_be_read_leaves_no_half_of_a_folder(toy: Path, capfd: pytest.CaptureFixture[str]) -> None:
    truth = read_json(toy / "truth.json")
    truth["annotations"][-1]["segmentation"] = {"size": [64, 64], "counts": "zz"}
    write_json(toy / "truth.json", truth)
    before = snapshot(toy)
    for form in FORMS:
        assert run(shlex.split(f"{EXPORT} --to {form} --out made/{form} --quiet")) == 2
        check_message(capfd.readouterr().err, "truth.json * annotation 8.segmentation * Write the mask again")
    assert snapshot(toy) == before


def page_commands() -> list[str]:
    page = (ROOT / "docs/exports.md").read_text(encoding="utf-8")
    return re.findall(r"^    sapnet-pipe (.*)$", page, flags=re.MULTILINE)


@pytest.mark.parametrize("command", page_commands())
def test_every_command_of_the_page_runs_as_printed(
    command: str, toy: Path, result_of: Callable[[str], dict[str, Any]]
) -> None:
    (toy / "runs/select").mkdir(parents=True)
    shutil.copy(toy / "truth.json", toy / "runs/select/pseudo_labels.json")
    shutil.copytree(toy / "images", toy / "photos")
    assert result_of(command)["objects"] in (5, 8)


def test_the_page_has_a_command_for_every_form() -> None:
    assert {command.partition("--to ")[2].split()[0] for command in page_commands()} == FORMS.keys()
