"""Whole trainings on drawn photographs: overfitting, empty images, interruption, prediction."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from sapnet_pipe.data.coco.instances import read_instances
from sapnet_pipe.data.errors import UserError
from sapnet_pipe.data.evaluation.coco_ap import coco_ap
from sapnet_pipe.stages.segment import predict
from sapnet_pipe.stages.segment.run import run
from sapnet_pipe.stages.training.checkpoint import load_checkpoint
from tests.places import child_environment
from tests.stages.segment.segment_scenes import tiny_config, write_scenes


def _train(folder: Path, labels: Path, name: str = "run", **settings):
    options = {key: settings.pop(key) for key in ("val_labels", "val_images", "resume") if key in settings}
    out = folder / name
    out.mkdir(exist_ok=True)
    return run(labels, labels.parent / "images", out, tiny_config(**settings), quiet=True, **options)


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(folder / "checkpoints" / "last.pt").model


def test_a_handful_of_scenes_is_learnt_by_heart_and_predicted_with_real_boxes(tmp_path):
    labels = write_scenes(tmp_path / "s", [3, 4, 2, 3, 0, 5])
    train = {"max_iterations": 150, "batch_size": 3, "lr": 0.003, "checkpoint_every": 150, "log_every": 50}
    summary = _train(
        tmp_path, labels, train=train, image={"flip": False}, val_labels=labels, val_images=tmp_path / "s/images"
    )
    assert summary.images_without_objects == 1
    assert summary.ap["segm"]["AP50"] > 0.9
    assert summary.ap["segm"]["AP"] > 0.55
    assert summary.ap["bbox"]["AP"] > 0.55
    out = tmp_path / "predictions.json"
    predicted = predict.run(tmp_path / "run", tmp_path / "s/images", out, images_json=labels, device="cpu", quiet=True)
    assert predicted.images == 6
    assert coco_ap(read_instances(labels), out, "segm")["AP"] == pytest.approx(summary.ap["segm"]["AP"], abs=1e-3)


def test_images_and_batches_without_objects_train(tmp_path):
    labels = write_scenes(tmp_path / "s", [0, 0, 0, 1], crowd=True)
    summary = _train(tmp_path, labels, train={"max_iterations": 4})
    assert summary.iterations == 4
    assert summary.images_without_objects == 3
    assert summary.dropped["crowd"] == 4
    records = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert any(record["positive_pairs"] == 0 and record["loss_ins"] == 0 for record in records)


def test_alternates_change_the_training_unless_their_weight_is_zero(tmp_path):
    labels = write_scenes(tmp_path / "s", [2, 2], alternates=True)
    plain = write_scenes(tmp_path / "p", [2, 2])
    for name, file, weight in (("with", labels, 0.25), ("off", labels, 0.0), ("plain", plain, 0.25)):
        _train(tmp_path, file, name, loss={"mps_weight": weight})
    with_them, off, none = (_weights(tmp_path / name) for name in ("with", "off", "plain"))
    assert all(torch.equal(off[key], none[key]) for key in off)
    assert any(not torch.equal(with_them[key], none[key]) for key in none)


def test_a_killed_training_resumes_to_the_same_weights(tmp_path):
    labels = write_scenes(tmp_path / "s", [2, 1, 3, 0, 2], alternates=True)
    settings = {"image": {"short_sides": [64, 96]}}
    _train(tmp_path, labels, "whole", train={"max_iterations": 5}, **settings)
    out = tmp_path / "killed"
    out.mkdir()
    exit_code = _killed_training(labels, out)
    _train(tmp_path, labels, "killed", train={"max_iterations": 5}, resume=True, **settings)
    assert exit_code == -signal.SIGKILL
    whole, killed = _weights(tmp_path / "whole"), _weights(out)
    assert all(torch.equal(whole[key], killed[key]) for key in whole)
    lines = [[json.loads(x)["loss"] for x in (tmp_path / n / "metrics.jsonl").open()] for n in ("whole", "killed")]
    assert lines[0] == lines[1]


def _killed_training(labels: Path, out: Path) -> int:
    """Train in a process of its own that kills itself in the middle of a step; returns its exit code."""
    code = f"""
import os, signal
from pathlib import Path
from tests.stages.segment.segment_scenes import tiny_config
from sapnet_pipe.stages.segment import builtin
from sapnet_pipe.stages.segment.run import run
plain = builtin.solov2_losses
count = 0
def dying(*args, **kwargs):
    global count
    count += 1
    if count == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return plain(*args, **kwargs)
builtin.solov2_losses = dying
config = tiny_config(image={{"short_sides": [64, 96]}}, train={{"max_iterations": 5}})
labels = Path({str(labels)!r})
run(labels, labels.parent / "images", Path({str(out)!r}), config, quiet=True)
"""
    environment = child_environment()
    return subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode


def test_workers_make_the_same_batches(tmp_path):
    labels = write_scenes(tmp_path / "s", [2, 1, 3])
    _train(tmp_path, labels, "none")
    _train(tmp_path, labels, "one", train={"workers": 1})
    none, one = _weights(tmp_path / "none"), _weights(tmp_path / "one")
    assert all(torch.equal(none[key], one[key]) for key in none)


def test_a_training_can_start_from_an_exported_model(tmp_path):
    labels = write_scenes(tmp_path / "s", [2, 1])
    _train(tmp_path, labels, "first")
    summary = _train(tmp_path, labels, "second", init=str(tmp_path / "first/model_final.pth"))
    assert any("started from" in note for note in summary.notes)


def test_validation_labels_with_other_categories_are_refused_before_the_training(tmp_path):
    labels = write_scenes(tmp_path / "s", [1])
    other = tmp_path / "other.json"
    other.write_text(labels.read_text().replace('"disc"', '"dish"'))
    with pytest.raises(UserError, match=r"id 20 = dish"):
        _train(tmp_path, labels, val_labels=other)
    assert not (tmp_path / "run/checkpoints").exists()


def test_predictions_of_a_folder_are_numbered_by_name_and_written_beside(tmp_path):
    labels = write_scenes(tmp_path / "s", [1, 2])
    _train(tmp_path, labels)
    (tmp_path / "s/images/notes.txt").write_text("x")
    out = tmp_path / "p/predictions.json"
    summary = predict.run(tmp_path / "run/model_final.pth", tmp_path / "s/images", out, device="cpu", quiet=True)
    assert (summary.images, summary.other_files) == (2, 1)
    ids = json.loads((tmp_path / "p/predictions.images.json").read_text())
    assert [(image["id"], image["file_name"]) for image in ids["images"]] == [(1, "001.png"), (2, "002.png")]
    assert isinstance(json.loads(out.read_text()), list)
    again = predict.run(tmp_path / "run", tmp_path / "s/images", tmp_path / "p/b.json", device="cpu", quiet=True,
                        images_json=tmp_path / "p/predictions.images.json")  # fmt: skip
    assert again.instances == summary.instances
    assert (tmp_path / "p/b.json").read_bytes() == out.read_bytes()
    (tmp_path / "s/images/000.jpg").write_bytes(b"")
    rest = predict.run(tmp_path / "run", tmp_path / "s/images", tmp_path / "p/c.json", device="cpu", quiet=True,
                       max_failure_rate=0.5)  # fmt: skip
    assert (rest.images, rest.images_unreadable, rest.instances) == (2, 1, summary.instances)
    one = predict.run(tmp_path / "run", tmp_path / "s/images/002.png", tmp_path / "p/d.json", device="cpu", quiet=True)
    assert one.images == 1


def test_limits_of_prediction_leave_the_best_instances(tmp_path):
    labels = write_scenes(tmp_path / "s", [3, 3])
    eager = {"score_threshold": 0.0, "update_threshold": 0.0}
    _train(tmp_path, labels, test=eager)
    images = tmp_path / "s/images"
    found = {}
    for name, options in (("all", {}), ("two", {"max_per_image": 2}), ("high", {"score_threshold": 0.012})):
        out = tmp_path / f"{name}.json"
        predict.run(tmp_path / "run", images, out, device="cpu", quiet=True, **options)
        found[name] = json.loads(out.read_text())
    scores = [entry["score"] for entry in found["all"] if entry["image_id"] == 1]
    assert len(scores) > 2
    assert scores == sorted(scores, reverse=True)
    assert [entry["score"] for entry in found["two"] if entry["image_id"] == 1] == scores[:2]
    assert found["high"] == [entry for entry in found["all"] if entry["score"] >= 0.012]
    for entry in found["all"]:
        x, y, width, height = entry["bbox"]
        assert 0 <= x < x + width <= 128
        assert 0 <= y < y + height <= 96
        assert entry["category_id"] in (10, 20, 30)


def test_batches_of_photographs_predict_what_single_ones_do(tmp_path):
    labels = write_scenes(tmp_path / "s", [2, 2, 1])
    _train(tmp_path, labels, test={"score_threshold": 0.0, "update_threshold": 0.0})
    results = []
    for size in (1, 3):
        out = tmp_path / f"{size}.json"
        predict.run(tmp_path / "run", tmp_path / "s/images", out, device="cpu", batch_size=size, quiet=True)
        results.append(json.loads(out.read_text()))
    scores = [[entry["score"] for entry in entries] for entries in results]
    assert scores[0] == pytest.approx(scores[1], abs=1e-5)


@pytest.mark.parametrize("kind", ["empty folder", "no run", "not an image"])
def test_predictions_that_cannot_be_made_are_refused_and_write_nothing(tmp_path, kind):
    labels = write_scenes(tmp_path / "s", [1])
    images, run_dir = tmp_path / "s/images", tmp_path / "run"
    if kind != "no run":
        _train(tmp_path, labels)
    else:
        run_dir.mkdir()
    if kind == "empty folder":
        images = tmp_path / "empty"
        images.mkdir()
    if kind == "not an image":
        (images / "002.png").write_bytes(b"not an image")
    with pytest.raises(UserError):
        predict.run(run_dir, images, tmp_path / "p.json", device="cpu", quiet=True)
    assert not list(tmp_path.glob("p.*"))
