"""A microscope's set of 12 bits in 16-bit TIFF, through all stages beside its twins of 8 bits."""

import json
import shlex
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from sapnet_pipe.data.bag_store.store import BagStore
from sapnet_pipe.data.bag_store.table import baseline_choice
from sapnet_pipe.data.coco.masks import decode_masks
from sapnet_pipe.data.files import read_json, write_json
from sapnet_pipe.data.images import deep_pixels
from sapnet_pipe.pipeline.cli import run
from tests.pipeline.toy_job import BAGS, SELECT, SIDE, TRAIN, write_toy

DARK = "3"
STAGES = (
    f"{BAGS} --out bags --json",
    f"{SELECT} --out run --json",
    f"{TRAIN} --labels run/pseudo_labels.json --out seg --val-labels truth.json --json",
    "predict --run seg --images images --images-json truth.json --out pred.json --quiet --json",
)


def write_set(folder: Path, form: str) -> None:
    """The toy set with a dark photograph: ``12bit``, cut ``to 8`` of them, or ``rounded`` by another program."""
    write_toy(folder)
    rng = np.random.default_rng(1)
    for path in sorted((folder / "images").iterdir()):
        deep = np.asarray(Image.open(path)).astype(np.uint16) * 16
        deep += rng.integers(0, 16, deep.shape).astype(np.uint16)
        if path.stem == DARK:
            deep //= 5
        path.unlink()
        pixels = {"12bit": deep, "to 8": deep >> 4, "rounded": np.rint(deep * (255 / 4095))}[form]
        kind = np.uint16 if form == "12bit" else np.uint8
        assert cv2.imwrite(str(path.with_suffix(".tif")), pixels.astype(kind)[:, :, ::-1])
    for name in ("truth.json", "points.json"):
        content = read_json(folder / name)
        for image in content["images"]:
            image["file_name"] = image["file_name"].replace(".png", ".tif")
        write_json(folder / name, content)


def run_all(folder: Path, lines: tuple[str, ...], capfd: pytest.CaptureFixture[str]) -> list[tuple[Any, str]]:
    """What each command printed as JSON, and its notes."""
    said = []
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for line in lines:
            assert run(shlex.split(line)) == 0, capfd.readouterr().err
            printed = capfd.readouterr()
            said.append((json.loads(printed.out.splitlines()[-1]), printed.err))
    return said


def masks_of(folder: Path) -> NDArray[np.bool_]:
    """Of each point the mask that SAM scores highest."""
    store = BagStore.open(folder / "bags")
    best = baseline_choice(store.read_table(), "sam-top1")
    bags = [rles for _, found in store.iter_masks() for rles in found.values()]
    return decode_masks([rles[place] for rles, place in zip(bags, best.tolist(), strict=True)], SIDE, SIDE)


def test_all_stages_give_the_masks_of_the_8_bit_twin(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for form in ("12bit", "to 8"):
        write_set(tmp_path / form, form)
    deep, twin = (run_all(tmp_path / form, STAGES, capfd) for form in ("12bit", "to 8"))

    np.testing.assert_array_equal(masks_of(tmp_path / "12bit"), masks_of(tmp_path / "to 8"))
    for file in ("run/pseudo_labels.json", "pred.json"):
        own, other = (read_json(tmp_path / form / file) for form in ("12bit", "to 8"))
        own, other = (found if file == "pred.json" else found["annotations"] for found in (own, other))
        assert own
        assert own == other
    assert deep[2][0]["ap"] == twin[2][0]["ap"]

    recorded = [
        read_json(tmp_path / "12bit/bags/manifest.json")["recipe_settings"].get("depth"),
        read_json(tmp_path / "12bit/run/pseudo_labels.json")["info"].get("depth"),
        read_json(tmp_path / "12bit/seg/model.json")["depth"],
        deep[3][0]["depth"],
    ]
    assert recorded == ["auto:12bit"] * 4
    assert "depth" not in read_json(tmp_path / "to 8/bags/manifest.json")["recipe_settings"]
    assert "depth" not in read_json(tmp_path / "to 8/run/pseudo_labels.json")["info"]
    assert twin[3][0]["depth"] == "auto"
    assert "4 photographs have more than 8 bits a channel" in str(deep[0]) + str(deep[3])
    assert "more than 8 bits" not in str(twin)

    others = (
        "predict --run seg --images images --out one.json --depth 0:65535 --quiet --json",
        f"{TRAIN} --labels run/pseudo_labels.json --out full --set image.depth=full --json",
    )
    predicted, _ = run_all(tmp_path / "12bit", others, capfd)
    assert predicted[0]["depth"] == "0:65535"
    assert "depth of the model's training is not taken" in str(predicted)
    assert "depth of the labels is not taken" in str(
        read_json(tmp_path / "12bit/full/manifest.json")["result"]["notes"]
    )
    assert read_json(tmp_path / "12bit/full/model.json")["depth"] == "full"


def test_the_masks_are_those_of_a_twin_that_another_program_made(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for form in ("12bit", "rounded"):
        write_set(tmp_path / form, form)
        run_all(tmp_path / form, STAGES[:1], capfd)
    own, other = masks_of(tmp_path / "12bit"), masks_of(tmp_path / "rounded")
    assert own.shape == other.shape
    iou = (own & other).sum(axis=(1, 2)) / (own | other).sum(axis=(1, 2))
    assert iou.mean() >= 0.98  # 0.992: the dark photograph is off by up to half a step of 50


def test_a_store_goes_on_by_the_depth_that_it_began_with(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write_set(tmp_path / "set", "12bit")
    run_all(tmp_path / "set", STAGES[:1], capfd)
    images = tmp_path / "set/images"
    bright = deep_pixels(images / "1.tif")
    assert bright is not None
    cv2.imwrite(str(images / "1.tif"), bright[:, :, ::-1] * 4)
    again, _ = run_all(tmp_path / "set", STAGES[:1], capfd)[0]
    assert again["already_complete"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path / "set")
        assert run(shlex.split(f"{BAGS} --out bags --depth percentile")) == 2
        assert "recipe_settings.depth = auto:12bit, but this run has 'percentile'" in capfd.readouterr().err
        assert run(shlex.split(f"{BAGS} --out other --depth 4095")) == 2
        assert "--depth: depth = 4095, not a depth" in capfd.readouterr().err


def test_doctor_shows_the_depth(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write_set(tmp_path / "set", "12bit")
    images, points = tmp_path / "set/images", tmp_path / "set/points.json"
    run(["doctor", "--images", str(images), "--points", str(points), "--sam", "tiny"])
    said = capfd.readouterr().out
    assert "4 photographs have more than 8 bits a channel" in said
    assert "1.tif, which is scaled by --depth auto:12bit: of the 12 bits in use the highest 8 are kept" in said
