"""The command line as people and programs use it: help, JSON, quiet, interruption, odd names."""

import json
import shlex
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sapnet_pipe.data.errors import UserError
from sapnet_pipe.data.files import read_json, write_json
from sapnet_pipe.pipeline.cli import run
from sapnet_pipe.stages.training.checkpoint import load_tensors
from sapnet_pipe.stages.training.step import TrainStep
from tests.pipeline.one_line import check_message
from tests.pipeline.spoilers import TRAP, cut, trap
from tests.pipeline.toy_job import BAGS, SELECT, TRAIN, snapshot
from tests.places import child_environment

PROGRAM = [sys.executable, "-c", "from sapnet_pipe.pipeline.cli import main; main()"]
ENVIRONMENT = child_environment()

COMMANDS = {
    "points": "points --annotations truth.json --out new.json",
    "generate-bags": f"{BAGS.removesuffix(' --quiet')} --out new",
    "select": f"{SELECT.replace(' --quiet', '')} --out new --truth truth.json",
    "train-seg": f"{TRAIN.replace(' --quiet', '')} --out new --labels run/pseudo_labels.json --val-labels truth.json",
    "predict": "predict --run seg --images images --out new.json --draw drawn --set draw_score=0",
    "export": "export --labels run/pseudo_labels.json --images images --to yolo --out new",
    "evaluate": "evaluate --truth truth.json --predictions pred.json",
    "evaluate labels": "evaluate --truth truth.json --labels run/pseudo_labels.json",
    "bags verify": "bags verify bags",
    "bags inspect": "bags inspect bags --truth truth.json",
    "bags merge": "bags merge bags --out new",
    "bags export": "bags export bags --out new.json",
}


def refuse_constant(name: str) -> None:
    raise AssertionError(f"{name} is not JSON")


@pytest.mark.parametrize("command", COMMANDS.values(), ids=[name.replace(" ", "-") for name in COMMANDS])
def test_quiet_json_is_one_line_of_strict_json(job: Path, capfd: pytest.CaptureFixture[str], command: str) -> None:
    capfd.readouterr()
    assert run([*shlex.split(command), "--json", "--quiet"]) == 0
    said = capfd.readouterr()
    assert said.err == ""
    assert len(said.out.splitlines()) == 1
    assert json.loads(said.out, parse_constant=refuse_constant)


@pytest.mark.parametrize("command", COMMANDS.values(), ids=[name.replace(" ", "-") for name in COMMANDS])
def test_people_get_a_short_summary_and_programs_its_last_line(
    job: Path, capfd: pytest.CaptureFixture[str], command: str
) -> None:
    capfd.readouterr()
    assert run([*shlex.split(command), "--json"]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert json.loads(lines[-1], parse_constant=refuse_constant)
    assert len(lines) <= 75


@pytest.mark.parametrize("command", [*COMMANDS, "demo"])
def test_every_command_explains_itself_and_takes_the_common_options(
    capsys: pytest.CaptureFixture[str], command: str
) -> None:
    names = command.removesuffix(" labels").split()
    assert run([*names, "--help"]) == 0
    text = capsys.readouterr().out
    assert "--json" in text
    assert "--quiet" in text
    common = ["--json", "--quiet", "--seed", "1", "--set", "k=1", "--config", "no.toml", "--device", "cpu"]
    assert run([*names, *common, "--help"]) == 0


def test_an_interrupted_demo_says_how_to_run_it_again(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(folder: Path, *_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("sapnet_pipe.pipeline.demo.scenes.write_scene_dataset", interrupt)
    assert run(["demo", "--out", str(tmp_path / "demo")]) == 130
    check_message(capfd.readouterr().err, "interrupted * remove its folder * another --out")


def test_without_a_command_the_commands_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 0
    text = capsys.readouterr().out
    assert all(name.split()[0] in text for name in COMMANDS)


def test_an_image_without_points_is_counted_and_no_fault(job: Path, capfd: pytest.CaptureFixture[str]) -> None:
    points = read_json(job / "points.json")
    points["annotations"] = [entry for entry in points["annotations"] if entry["image_id"] != 3]
    write_json(job / "points.json", points)
    assert run([*shlex.split(f"{BAGS} --out new --json")]) == 0
    result = json.loads(capfd.readouterr().out)
    assert result["images"] == 3
    assert result["dropped"]["images_without_points"] == 1
    assert run(shlex.split(SELECT.replace("--bags bags", "--bags new") + " --out new_run")) == 0
    labels = read_json(job / "new_run/pseudo_labels.json")
    assert {label["image_id"] for label in labels["annotations"]} == {1, 2, 4}


def test_names_with_spaces_accents_and_capitals_go_through_all_stages(
    job: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    photos = job / "Meine Fotos 📷"
    (photos / "été 1").mkdir(parents=True)
    names = ["été 1/Straße (1).JPG", "IMG 0001.JPEG"]
    for number, name in enumerate(names, 1):
        pixels = np.array(Image.open(job / "images" / f"{number}.png"))
        Image.fromarray(pixels).save(photos / name, format="JPEG", quality=95)
    clicks = "".join(f"{name};17,5;18,25;Tasse\r\n{name};47;44;Löffel\r\n" for name in names)
    (job / "Klicks 1.csv").write_bytes(b"\xef\xbb\xbf" + f"file_name;x;y;category\r\n{clicks}".encode())
    steps = [
        BAGS.replace("--images images", "--images PHOTOS").replace("points.json", "'Klicks 1.csv'")
        + " --out 'neue bags'",
        SELECT.replace("--bags bags --images images", "--bags 'neue bags' --images PHOTOS") + " --out 'Lauf 1'",
        TRAIN.replace("--images images", "--images PHOTOS") + " --labels 'Lauf 1/pseudo_labels.json' --out 'Lauf 2'",
        "predict --run 'Lauf 2' --images PHOTOS --out vorhersage.json --draw 'Bilder ü' --set draw_score=0 --quiet",
    ]
    for step in steps:
        line = shlex.split(step.replace("--images PHOTOS", shlex.join(["--images", photos.name])))
        assert run(line) == 0, (step, capfd.readouterr().err)
    labels = read_json(job / "Lauf 1/pseudo_labels.json")
    assert [image["file_name"] for image in labels["images"]] == sorted(names)
    assert [category["name"] for category in labels["categories"]] == ["Löffel", "Tasse"]
    drawn = [Image.open(job / "Bilder ü" / name) for name in names]
    assert [(picture.format, picture.size) for picture in drawn] == [("JPEG", (64, 64))] * 2


def test_drawn_pictures_show_the_instances_above_the_score(job: Path, capfd: pytest.CaptureFixture[str]) -> None:
    predictions = read_json(job / "pred.json")
    best = max(predictions, key=lambda entry: entry["score"])
    line = "predict --run seg --images images --images-json truth.json --out new.json --draw drawn --quiet --json"
    assert run(shlex.split(f"{line} --set draw_score={best['score'] - 1e-6}")) == 0
    shown = [entry for entry in predictions if entry["score"] >= best["score"] - 1e-6]
    names = {f"{entry['image_id']}.png" for entry in shown}
    assert {path.name for path in (job / "drawn").iterdir()} == names
    assert json.loads(capfd.readouterr().out)["pictures"] == len(names)
    name = f"{best['image_id']}.png"
    before, after = (np.array(Image.open(job / folder / name)).astype(int) for folder in ("images", "drawn"))
    assert np.abs(before - after).sum(axis=2).max() > 30


def test_nothing_found_is_said(job: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(shlex.split("predict --run seg --images images --out new.json --set score_threshold=1")) == 0
    assert "Note: nothing was found" in capfd.readouterr().out
    assert read_json(job / "new.json") == []


def test_an_interrupted_training_says_how_to_go_on_and_ends_the_same(
    job: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command = shlex.split(f"{TRAIN} --set train.checkpoint_every=1 --labels run/pseudo_labels.json --out new")
    step = TrainStep.step

    def interrupted(self: TrainStep, iteration: int, batch: object) -> dict[str, float]:
        if iteration == 1:
            raise KeyboardInterrupt
        return step(self, iteration, batch)

    with monkeypatch.context() as patch:
        patch.setattr(TrainStep, "step", interrupted)
        assert run(command) == 130
    check_message(capfd.readouterr().err.strip(), "interrupted * --resume")
    assert run(command) == 2
    check_message(capfd.readouterr().err, "already holds a train-seg run * --resume")
    assert run([*command, "--resume"]) == 0
    undisturbed = shlex.split(f"{TRAIN} --set train.checkpoint_every=1 --labels run/pseudo_labels.json --out whole")
    assert run(undisturbed) == 0
    resumed, whole = (load_tensors(job / name / "model_final.pth")["model"] for name in ("new", "whole"))
    assert resumed.keys() == whole.keys()
    assert all(torch.equal(resumed[key], whole[key]) for key in whole)


def test_ctrl_c_in_stage_one_keeps_finished_shards(job: Path, capfd: pytest.CaptureFixture[str]) -> None:
    command = shlex.split(BAGS.replace("shard_images=2", "shard_images=1") + " --out new")
    points = read_json(job / "points.json")
    points["images"] += [image | {"id": image["id"] + 4 * k} for k in range(1, 4) for image in points["images"]]
    points["annotations"] += [
        entry | {"id": entry["id"] + 8 * k, "image_id": entry["image_id"] + 4 * k}
        for k in range(1, 4)
        for entry in points["annotations"]
    ]
    write_json(job / "points.json", points)
    heed_ctrl_c = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a shell's background jobs start deaf to it
    process = subprocess.Popen(
        [*PROGRAM, *command], env=ENVIRONMENT, stderr=subprocess.PIPE, text=True, preexec_fn=heed_ctrl_c
    )
    while not (job / "new/bags-00000.parquet").is_file() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    check_message(said.strip(), "interrupted * Run the same command again * kept")
    assert not (job / "new/manifest.json").exists()
    assert run([*command, "--json"]) == 0
    result = json.loads(capfd.readouterr().out)
    assert result["shards"] == 16
    assert result["shards_made"] < 16
    assert run(["bags", "verify", "new", "--quiet"]) == 0


@pytest.mark.parametrize(
    ("spoil", "command", "message"),
    [
        pytest.param(cut("points.json"), f"{BAGS} --out new", "points.json * not valid JSON", id="broken JSON"),
        pytest.param(trap("sam.pkl"), f"{BAGS} --out new --checkpoint sam.pkl", "sam.pkl * code", id="pickle"),
    ],
)
def test_a_real_process_says_one_line_too(job: Path, spoil, command: str, message: str) -> None:
    spoil(job)
    before = snapshot(job)
    ended = subprocess.run([*PROGRAM, *shlex.split(command)], env=ENVIRONMENT, capture_output=True, text=True)
    assert ended.returncode == 2
    assert ended.stdout == ""
    check_message(ended.stderr, message)
    assert not (job / TRAP).exists()
    assert snapshot(job) == before


def test_what_the_command_line_alone_shows_to_be_wrong_is_refused_without_loading_torch(tmp_path: Path) -> None:
    select, train = "select --bags b --images . --out new", "train-seg --labels l.json --images . --out new"
    wrong = (
        f"{select} --method best", f"{select} --method oracle", f"{select} --images none", f"{select} --device gpu",
        f"{train} --engine yolo", f"{train} --val-images .", train,
    )  # fmt: skip
    code = (
        "import shlex, sys; from sapnet_pipe.pipeline.cli import run; "
        f"sys.exit(any(run(shlex.split(line)) != 2 for line in {wrong!r}) or 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(done.stderr.splitlines()) == len(wrong)
    assert list(tmp_path.iterdir()) == []


def test_labels_are_read_before_the_engine_is_announced(job: Path, capfd: pytest.CaptureFixture[str]) -> None:
    capfd.readouterr()
    assert run(shlex.split(f"{TRAIN.replace(' --quiet', '')} --labels points.json --out new")) == 2
    check_message(capfd.readouterr().err, "points.json * without mask")


def test_a_daemon_without_standard_error_is_served(tmp_path: Path) -> None:
    missing = tmp_path / "bags"
    code = "import os; os.close(2); from sapnet_pipe.pipeline.cli import main; main()"
    line = [sys.executable, "-c", code, "bags", "verify", str(missing)]
    done = subprocess.run(line, capture_output=True, check=False, env=child_environment())
    assert done.returncode == 2


def test_a_picture_that_fails_leaves_the_predictions_beside_it(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> int:
        raise UserError("1.png", "content", "1.png", "a damaged photograph", "Save it again")

    monkeypatch.setattr("sapnet_pipe.pipeline.pictures.predictions.draw_predictions", fails)
    assert run(shlex.split("predict --run seg --images images --out d/p.json --draw d --quiet")) == 2
    assert (job / "d" / "p.json").is_file()
