"""Trainings by Detectron2: the same steps as the builtin engine, interruption, several processes, empty images."""

from tests.stages.segment.detectron2 import d2_host  # noqa: F401  # skips these tests where there is no Detectron2

# isort: split
import json
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog
from detectron2.utils import comm

from sapnet_pipe.data.coco.masks import encode_mask
from sapnet_pipe.data.errors import UserError
from sapnet_pipe.pipeline.cli import run as command
from sapnet_pipe.stages.segment.detectron2.loader import Places
from tests.places import child_environment
from tests.stages.segment.detectron2.d2_host import train, weights
from tests.stages.segment.segment_scenes import write_scenes

EAGER = {"score_threshold": 0.005, "update_threshold": 0.001, "max_per_image": 20}
ALL_STEPS = {"log_every": 1, "checkpoint_every": 2, "optimizer": "sgd", "lr": 0.01}


def _records(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    return write_scenes(tmp_path / "s", [2, 1, 3, 0, 2], alternates=True)


@pytest.mark.parametrize(("optimizer", "norm"), [("sgd", "gn"), ("adamw", "gn"), ("sgd", "bn")])
def test_both_engines_take_the_same_steps(tmp_path, labels, optimizer, norm):
    """On a CPU with one thread even the bits are equal; elsewhere sums may run in another order."""
    settings = {
        "train": {**ALL_STEPS, "optimizer": optimizer, "lr": 3e-3, "max_iterations": 8, "clip_norm": 2.0,
                  "warmup_iterations": 2, "scheduler": "step"},
        "image": {"short_sides": [64, 96]},
        "backbone": {"norm": norm},
    }  # fmt: skip
    for engine in ("builtin", "detectron2"):
        train(tmp_path, labels, engine, engine=engine, **settings)
    for ours, theirs in zip(_records(tmp_path / "builtin"), _records(tmp_path / "detectron2"), strict=True):
        assert theirs["iteration"] == ours["iteration"]
        assert theirs["positive_pairs"] == ours["positive_pairs"]
        for name in ("lr", "loss", "loss_ins", "loss_cate", "grad_norm"):
            assert theirs[name] == pytest.approx(ours[name], rel=1e-4), (name, ours["iteration"])
    one, other = weights(tmp_path / "builtin"), weights(tmp_path / "detectron2")
    for key in (key for key in one if "stem" not in key):
        torch.testing.assert_close(other[key], one[key], rtol=1e-3, atol=1e-5)


def test_workers_make_the_same_batches_in_the_same_order(tmp_path, labels):
    for name, workers in (("none", 0), ("two", 2)):
        train(tmp_path, labels, name, train={**ALL_STEPS, "max_iterations": 5, "workers": workers})
    none, two = weights(tmp_path / "none"), weights(tmp_path / "two")
    assert all(torch.equal(none[key], two[key]) for key in none)


def test_the_run_folder_has_detectron2s_names_and_ours(tmp_path, labels):
    summary = train(tmp_path, labels, "run", val_labels=labels, train={"max_iterations": 3})
    out = tmp_path / "run"
    names = {path.name for path in out.iterdir()}
    assert {"model_final.pth", "metrics.json", "last_checkpoint", "config.yaml", "log.txt"} <= names
    assert {"model.json", "metrics.jsonl", "inference"} <= names
    assert any(name.startswith("events.out.tfevents") for name in names)
    assert (out / "last_checkpoint").read_text() == "model_final.pth"
    assert not [name for name in names if name.startswith(".")]
    assert summary.engine == "detectron2"
    assert summary.iterations == 3
    assert "segm/AP" in (out / "metrics.json").read_text().splitlines()[-1]
    assert summary.ap is not None
    assert summary.ap.keys() == {"segm", "bbox"}
    assert not [name for name in DatasetCatalog.list() if name.startswith("sapnet_pipe")]


def _killed(labels: Path, out: Path, step: int, config: str, number: int = signal.SIGKILL) -> int:
    """Train in a process of its own that sends itself a signal at the `step`-th loss; returns its exit code."""
    code = f"""
import os, signal
from pathlib import Path
from tests.stages.segment.segment_scenes import tiny_config
from sapnet_pipe.stages.segment.detectron2 import meta_arch
from sapnet_pipe.stages.segment.run import run
plain, count = meta_arch.solov2_losses, 0
def dying(*args, **options):
    global count
    count += 1
    if count == {step}:
        os.kill(os.getpid(), {int(number)})
    return plain(*args, **options)
meta_arch.solov2_losses = dying
labels = Path({str(labels)!r})
run(labels, labels.parent / "images", Path({str(out)!r}), tiny_config(engine="detectron2", {config}), quiet=True,
    val_labels=labels)
"""
    return subprocess.run([sys.executable, "-c", code], env=child_environment(), check=False).returncode


def test_a_killed_training_resumes_with_iteration_optimiser_schedule_and_data_where_they_were(tmp_path, labels):
    settings = {"image": {"short_sides": [64, 96]}, "train": {**ALL_STEPS, "max_iterations": 7, "workers": 1}}
    settings["detectron2"] = {"INPUT": {"CROP": {"ENABLED": True}}}
    train(tmp_path, labels, "whole", **settings)
    out = tmp_path / "killed"
    out.mkdir()
    options = ", ".join(f"{key}={value!r}" for key, value in settings.items())
    assert _killed(labels, out, 6, options) == -signal.SIGKILL
    assert (out / "last_checkpoint").read_text() == "model_0000003.pth"
    assert len(_records(out)) == 5
    train(tmp_path, labels, "killed", resume=True, **settings)
    whole, killed = weights(tmp_path / "whole"), weights(out)
    assert all(torch.equal(whole[key], killed[key]) for key in whole)
    one, other = _records(tmp_path / "whole"), _records(out)
    assert [entry["iteration"] for entry in other] == list(range(1, 8))
    for name in ("loss", "lr", "grad_norm"):
        assert [entry[name] for entry in one] == [entry[name] for entry in other]
    steps = [json.loads(line)["iteration"] for line in (out / "metrics.json").read_text().splitlines()]
    assert steps == sorted(set(steps))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_training_goes_on_from_the_step_that_it_finished(tmp_path, labels, number):
    settings = {
        "train": {**ALL_STEPS, "max_iterations": 6, "log_every": 4, "checkpoint_every": 100},
        "detectron2": {"TEST": {"EVAL_PERIOD": 2}},
    }
    train(tmp_path, labels, "whole", val_labels=labels, **settings)
    out = tmp_path / "stopped"
    out.mkdir()
    options = ", ".join(f"{key}={value!r}" for key, value in settings.items())
    assert _killed(labels, out, 3, options, number) == -signal.SIGINT  # how Python ends on KeyboardInterrupt
    assert (out / "last_checkpoint").read_text() == "model_0000002.pth"
    assert not (out / "metrics.jsonl").exists()  # no record of half a window
    train(tmp_path, labels, "stopped", resume=True, val_labels=labels, **settings)
    whole, stopped = weights(tmp_path / "whole"), weights(out)
    assert all(torch.equal(whole[key], stopped[key]) for key in whole)
    assert [entry["iteration"] for entry in _records(out)] == [4, 6]
    for name in ("metrics.jsonl", "metrics.json"):
        assert _untimed(out / name) == _untimed(tmp_path / "whole" / name)


def _untimed(file: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    return [{k: v for k, v in line.items() if "time" not in k and "seconds" not in k} for line in lines]


def test_a_checkpoint_is_due_by_the_clock_as_well(tmp_path, labels):
    train(tmp_path, labels, "run", train={**ALL_STEPS, "max_iterations": 3, "checkpoint_every": 100,
                                          "checkpoint_minutes": 1e-9})  # fmt: skip
    assert {path.name for path in (tmp_path / "run").glob("model_0*.pth")} == {
        "model_0000001.pth", "model_0000002.pth"
    }  # fmt: skip


@pytest.mark.slow
def test_a_run_killed_before_its_first_checkpoint_begins_again(tmp_path, labels):
    out = tmp_path / "run"
    out.mkdir()
    assert _killed(labels, out, 1, 'train={"max_iterations": 3}') == -signal.SIGKILL
    assert train(tmp_path, labels, "run", resume=True, train={"max_iterations": 3}).iterations == 3


def test_a_finished_run_resumed_is_only_evaluated_again(tmp_path, labels):
    first = train(tmp_path, labels, "run", val_labels=labels)
    before, records = weights(tmp_path / "run"), _records(tmp_path / "run")
    again = train(tmp_path, labels, "run", val_labels=labels, resume=True)
    assert again.ap == first.ap
    assert _records(tmp_path / "run") == records
    assert all(torch.equal(before[key], value) for key, value in weights(tmp_path / "run").items())


@pytest.mark.slow
def test_two_processes_on_the_cpu_train_and_resume_alike(tmp_path):
    """One image in four has an object: in most steps a process has none, and must not hang the other."""
    labels = write_scenes(tmp_path / "s", [1, 0, 0, 0, 2])
    settings = {"detectron2": {"processes": 2}, "train": {**ALL_STEPS, "max_iterations": 6}}
    train(tmp_path, labels, "whole", val_labels=labels, **settings)
    out = tmp_path / "cut"
    train(tmp_path, labels, "cut", **settings)
    (out / "last_checkpoint").write_text("model_0000003.pth")  # as if the run had been killed in step 5
    (out / "model_final.pth").unlink()
    train(tmp_path, labels, "cut", resume=True, **settings)
    whole, cut = weights(tmp_path / "whole"), weights(out)
    assert all(torch.equal(whole[key], cut[key]) for key in whole)
    assert [entry["iteration"] for entry in _records(out)] == [1, 2, 3, 4, 5, 6]
    assert (out / "log.txt.rank1").is_file()


def test_the_processes_share_the_images_that_one_process_sees(monkeypatch):
    whole = list(Places(6, start=2, end=4))
    shares = []
    monkeypatch.setattr(comm, "get_world_size", lambda: 3)
    for rank in range(3):
        monkeypatch.setattr(comm, "get_rank", lambda rank=rank: rank)
        shares.append(list(Places(6, start=2, end=4)))
    assert whole == list(range(12, 24))
    assert shares == [[12, 13, 18, 19], [14, 15, 20, 21], [16, 17, 22, 23]]


@pytest.mark.slow
def test_an_error_in_a_process_is_told_in_one_line(tmp_path, labels):
    (tmp_path / "s/images/001.png").write_bytes(b"not an image")
    with pytest.raises(UserError, match=r"001\.png"):
        train(tmp_path, labels, "run", detectron2={"processes": 2}, train={"max_iterations": 5})
    with pytest.raises(UserError, match=r"001\.png"):
        train(tmp_path, labels, "other", train={"max_iterations": 5, "workers": 1})


def test_images_and_batches_without_objects_train(tmp_path):
    labels = write_scenes(tmp_path / "s", [0, 0, 0, 1], crowd=True)
    summary = train(tmp_path, labels, "run", train={**ALL_STEPS, "max_iterations": 4})
    assert summary.dropped["crowd"] == 4
    assert any(entry["positive_pairs"] == 0 and entry["loss_ins"] == 0 for entry in _records(tmp_path / "run"))


def test_five_hundred_objects_of_a_pixel_and_more_in_one_image_train(tmp_path):
    labels = write_scenes(tmp_path / "s", [1])
    content = json.loads(labels.read_text())
    first = content["annotations"].pop()
    for number in range(500):
        mask = np.zeros((96, 128), bool)
        top, left = divmod(number * 24, 128)
        mask[top % 96 : top % 96 + 1 + number % 9, left : left + 1 + number % 9] = True
        rle = {"size": [96, 128], "counts": encode_mask(mask).decode("ascii")}
        content["annotations"].append({**first, "id": number + 1, "segmentation": rle})
    labels.write_text(json.dumps(content))
    settings = {"train": {"max_iterations": 2, "batch_size": 1}, "image": {"short_sides": [48], "long_side": 64}}
    summary = train(tmp_path, labels, "run", **settings)
    assert summary.objects == 500
    assert 0 < summary.dropped["gone in the resize"] < 100
    assert summary.loss["positive_pairs"] > 100


def test_the_evaluation_hook_measures_while_the_training_goes_on(tmp_path, labels):
    options = {"detectron2": {"TEST": {"EVAL_PERIOD": 2}}, "train": {**ALL_STEPS, "max_iterations": 5}}
    train(tmp_path, labels, "run", val_labels=labels, test=EAGER, **options)
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.json").read_text().splitlines()]
    assert [line["iteration"] for line in lines if "segm/AP" in line] == [1, 3, 5]
    assert lines[-1]["segm/AP"] == lines[-1]["segm/AP"], "nothing was predicted"


def test_alternates_train_unless_their_weight_is_zero(tmp_path):
    labels = write_scenes(tmp_path / "s", [2, 2], alternates=True)
    plain = write_scenes(tmp_path / "p", [2, 2])
    for name, file, weight in (("with", labels, 0.25), ("off", labels, 0.0), ("plain", plain, 0.25)):
        train(tmp_path, file, name, loss={"mps_weight": weight})
    with_them, off, none = (weights(tmp_path / name) for name in ("with", "off", "plain"))
    assert all(torch.equal(off[key], none[key]) for key in off)
    assert any(not torch.equal(with_them[key], none[key]) for key in none)


def test_objects_that_did_not_train_are_counted_with_the_reason(tmp_path, labels):
    ranges = {"scale_ranges": [[200, 300], [400, 500]]}
    summary = train(tmp_path, labels, "run", head=ranges, train={"max_iterations": 6})
    assert summary.dropped == {"too large or small for every level": summary.objects}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"detectron2": {"SOLVER": {"BASE_LRR": 1}}}, r"detectron2\.SOLVER\.BASE_LRR = 1, .*Known here: BASE_LR"),
        ({"detectron2": {"SOLVER": {"BASE_LR": "fast"}}}, r"detectron2\.SOLVER\.BASE_LR = fast, which is not a float"),
        ({"detectron2": {"SOLVER": 3}}, r"detectron2\.SOLVER = 3, a group of options"),
        ({"detectron2": {"MODEL": {"BACKBONE": {"FREEZE_AT": 0}}}}, r"FREEZE_AT = 0, .*Use backbone"),
        ({"detectron2": {"MODEL": {"WEIGHTS": "x.pkl"}}}, r"Use init, or backbone\.weights"),
        ({"detectron2": {"SOLVER": {"AMP": {"ENABLED": True}}}, "device": "cpu"}, "does not do on cpu"),
        ({"detectron2": {"processes": 3}}, r"train\.batch_size = 2, which 3 processes cannot share"),
        ({"detectron2": {"SOLVER": {"OPTIMIZER": "LION"}}}, "Use SGD or ADAMW"),
        ({"detectron2": {"SOLVER": {"LR_SCHEDULER_NAME": "Foo"}}}, "refuses one .*Foo"),
        ({"detectron2": {"SOLVER": {"CLIP_GRADIENTS": {"CLIP_TYPE": "foo"}}}}, "refuses one .*foo"),
        ({"detectron2": {"INPUT": {"CROP": {"ENABLED": True, "TYPE": "foo"}}}}, "refuses one"),
    ],
)
def test_options_that_cannot_be_are_refused_by_name(tmp_path, labels, settings, said):
    with pytest.raises(UserError, match=said):
        train(tmp_path, labels, "run", **settings)


def test_detectron2s_options_reach_its_config(tmp_path, labels):
    options = {"SOLVER": {"BASE_LR": 1, "MAX_ITER": 4, "STEPS": [2]}, "DATALOADER": {"FILTER_EMPTY_ANNOTATIONS": True}}
    train_settings = {**ALL_STEPS, "scheduler": "step"}
    summary = train(tmp_path, labels, "run", train=train_settings, detectron2=options)
    assert summary.iterations == 4
    assert [entry["lr"] for entry in _records(tmp_path / "run")] == pytest.approx([1, 1, 0.1, 0.1])
    assert "BASE_LR: 1.0" in (tmp_path / "run/config.yaml").read_text()


SMALL = (
    "--preset demo --device cpu --json --set train.max_iterations=3 --set backbone.width=16 "
    "--set test.score_threshold=0.001 --set test.update_threshold=0.001 --set test.max_per_image=5"
)


def test_the_commands_train_resume_predict_and_evaluate(tmp_path, labels, capfd):
    out, found = tmp_path / "run", tmp_path / "found.json"
    images = tmp_path / "s/images"
    base = f"train-seg --labels {labels} --images {images} --out {out} --val-labels {labels} {SMALL}"
    commands = [
        f"{base} --engine detectron2 --set detectron2.SOLVER.CHECKPOINT_PERIOD=2",
        f"{base} --engine detectron2 --set detectron2.SOLVER.CHECKPOINT_PERIOD=2 --resume --quiet",
        f"predict --run {out} --images {images} --images-json {labels} --out {found} --draw {tmp_path / 'drawn'} "
        "--set draw_score=0 --set batch_size=2 --device cpu --json --quiet",
        f"evaluate --truth {labels} --predictions {found} --json --quiet",
    ]
    results = []
    for line in commands:
        code = command(shlex.split(line))
        said = capfd.readouterr()
        assert code == 0, said.err
        results.append(json.loads(said.out.splitlines()[-1]))
        assert "--quiet" not in line or len(said.out.splitlines()) == 1
    trained, _, predicted, measured = results
    assert predicted["instances"] > 0
    for kind in ("segm", "bbox"):
        assert measured[kind]["AP"] == pytest.approx(trained["ap"][kind]["AP"], abs=1e-4)
    manifest = json.loads((out / "manifest.json").read_text())
    assert (manifest["status"], manifest["result"]["engine"]) == ("complete", "detectron2")


def test_auto_takes_detectron2_and_says_so_in_one_line(tmp_path, labels, capfd):
    images = tmp_path / "s/images"
    assert command(shlex.split(f"train-seg --labels {labels} --images {images} --out {tmp_path / 'r'} {SMALL}")) == 0
    lines = capfd.readouterr().err.splitlines()
    assert len([line for line in lines if "auto takes detectron2" in line]) == 1


def test_a_run_that_is_not_finished_is_to_be_resumed_before_it_predicts(tmp_path, labels, capfd):
    train(tmp_path, labels, "run", train={"max_iterations": 2, "checkpoint_every": 1})
    (tmp_path / "run/model_final.pth").unlink()
    predicting = f"--images {tmp_path / 's/images'} --out {tmp_path / 'found.json'} --device cpu --quiet"
    assert command(shlex.split(f"predict --run {tmp_path / 'run'} {predicting}")) == 2
    assert "Go on with train-seg --resume" in capfd.readouterr().err
    assert command(shlex.split(f"predict --run {tmp_path / 'run/model_0000001.pth'} {predicting}")) == 0
