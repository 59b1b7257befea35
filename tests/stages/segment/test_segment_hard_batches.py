"""Images, batches and masks that offer next to nothing, or very much: training goes on and says what it dropped."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sapnet_pipe.data.coco.masks import encode_mask
from sapnet_pipe.data.files import write_json
from sapnet_pipe.pipeline.cli import run as run_command
from sapnet_pipe.stages.segment.run import SegmentSummary, run
from tests.stages.segment.segment_scenes import tiny_config, write_scenes

HEIGHT, WIDTH = 96, 128


def _write(folder: Path, images: list[list[np.ndarray]], scale: int = 1) -> Path:
    """A label file with the masks of each image, (HEIGHT * scale, WIDTH * scale) bool, and grey photographs."""
    (folder / "images").mkdir(parents=True)
    document: dict[str, Any] = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "thing"}]}
    for number, masks in enumerate(images, 1):
        height, width = HEIGHT * scale, WIDTH * scale
        name = f"{number}.png"
        Image.fromarray(np.full((height, width, 3), 40 * number % 255, np.uint8)).save(folder / "images" / name)
        document["images"].append({"id": number, "file_name": name, "height": height, "width": width})
        for mask in masks:
            rle = {"size": [height, width], "counts": encode_mask(mask).decode("ascii")}
            entry = {"id": len(document["annotations"]) + 1, "image_id": number, "category_id": 1, "iscrowd": 0}
            document["annotations"].append(entry | {"segmentation": rle})
    write_json(folder / "labels.json", document)
    return folder / "labels.json"


def _box(y: int, x: int, height: int, width: int, scale: int = 1) -> np.ndarray:
    mask = np.zeros((HEIGHT * scale, WIDTH * scale), bool)
    mask[y : y + height, x : x + width] = True
    return mask


def _train(labels: Path, **train: Any) -> tuple[SegmentSummary, list[dict[str, Any]]]:
    """The summary and the record of every step; all losses are finite and no step was skipped."""
    out = labels.parent / "run"
    out.mkdir()
    summary = run(labels, labels.parent / "images", out, tiny_config(train={"log_every": 1, **train}), quiet=True)
    records = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    steps = [record for record in records if "loss_ins" in record]
    assert len(steps) == summary.iterations
    assert all(math.isfinite(record[name]) for record in steps for name in ("loss_ins", "loss_cate", "grad_norm"))
    assert summary.skipped_steps == 0
    return summary, steps


def test_an_epoch_of_which_no_instance_is_left_trains_the_background_and_says_why(tmp_path: Path) -> None:
    # One pixel in 64 falls between the samples of a photograph that is made eight times smaller.
    vanishing = [[_box(8 * n + 1, 8 * n + 1, 1, 1, scale=8)] for n in range(4)]
    summary, steps = _train(_write(tmp_path, vanishing, scale=8), max_iterations=4)
    assert summary.dropped == {"gone in the resize": 4}
    assert [(record["positive_pairs"], record["loss_ins"]) for record in steps] == [(0, 0)] * 4
    assert all(record["loss_cate"] > 0 for record in steps)
    assert steps[-1]["grad_norm"] > 0


def test_batches_without_an_instance_stand_among_others(tmp_path: Path) -> None:
    labels = _write(tmp_path, [[], [_box(20, 30, 30, 30)], [], []])
    summary, steps = _train(labels, batch_size=1, max_iterations=8)
    empty = [record["loss_ins"] == 0 for record in steps]
    assert empty.count(False) == 2, "one image of four has an object"
    assert summary.images_without_objects == 3
    assert summary.dropped == {}


def test_a_mask_that_vanishes_under_the_resize_is_counted_once_however_often_it_is_met(tmp_path: Path) -> None:
    masks = [_box(9, 9, 1, 1, scale=8), _box(200, 300, 160, 160, scale=8)]
    summary, steps = _train(_write(tmp_path, [masks], scale=8), batch_size=1, max_iterations=5)
    assert summary.objects == 2
    assert summary.dropped == {"gone in the resize": 1}
    assert all(record["positive_pairs"] > 0 for record in steps)


def test_masks_of_one_pixel_train(tmp_path: Path) -> None:
    summary, steps = _train(_write(tmp_path, [[_box(50, 60, 1, 1)], [_box(0, 0, 1, 1), _box(95, 127, 1, 1)]]))
    assert summary.dropped == {}
    assert all(record["positive_pairs"] >= 1 for record in steps)
    assert all(record["loss_ins"] > 0 for record in steps)


@pytest.mark.parametrize("alternates", [False, True], ids=["plain", "with alternates"])
def test_five_hundred_instances_in_one_image_train(tmp_path: Path, alternates: bool) -> None:
    masks = [_box(4 * (n // 25), 5 * (n % 25), 6, 7) for n in range(500)]
    labels = _write(tmp_path, [masks, []])
    if alternates:
        document = json.loads(labels.read_text())
        for entry in document["annotations"]:
            entry["alternates"] = [entry["segmentation"]] * 3
        write_json(labels, document)
    summary, steps = _train(labels, max_iterations=2)
    assert summary.objects == 500
    assert summary.dropped == {}
    assert all(record["positive_pairs"] >= 500 for record in steps)


def test_an_object_too_large_for_every_level_is_dropped_by_name(tmp_path: Path) -> None:
    labels = _write(tmp_path, [[_box(0, 0, HEIGHT, WIDTH), _box(20, 30, 30, 30)]])
    out = tmp_path / "run"
    out.mkdir()
    config = tiny_config(head={"scale_ranges": [[1, 32], [20, 64]]})
    summary = run(labels, tmp_path / "images", out, config, quiet=True)
    assert summary.dropped == {"too large or small for every level": 1}


def test_the_command_prints_what_was_dropped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    masks = [_box(9, 9, 1, 1, scale=8), _box(200, 300, 160, 160, scale=8)]
    labels = _write(tmp_path, [masks, [np.zeros((HEIGHT * 8, WIDTH * 8), bool)]], scale=8)
    config = tmp_path / "s.toml"
    small = tiny_config()
    from sapnet_pipe.pipeline.settings import to_toml

    config.write_text(to_toml(small))
    command = ["train-seg", "--labels", str(labels), "--images", str(tmp_path / "images"), "--out",
               str(tmp_path / "run"), "--config", str(config), "--engine", "builtin"]  # fmt: skip
    assert run_command(command) == 0
    said = capsys.readouterr().out
    assert "dropped.gone in the resize" in said
    assert "dropped.empty mask" in said


def test_scenes_with_crowds_alone_beside_objects_train(tmp_path: Path) -> None:
    summary, _ = _train(write_scenes(tmp_path, [0, 3], crowd=True))
    assert summary.dropped == {"crowd": 2}
