"""All commands in sequence on photographs of COCO 2017: crowds left out and counted, labels that others can read."""

import contextlib
import io
import json
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO
from torchvision.datasets import CocoDetection, wrap_dataset_for_transforms_v2

from sapnet_pipe.data.files import read_json, write_json
from sapnet_pipe.pipeline.cli import run
from tests.pipeline.toy_job import snapshot
from tests.places import SHARED

SMALL = "--set image.long_side=320 --set train.batch_size=2 --set train.max_iterations=3 --device cpu --json --quiet"
FIVE_COMMANDS = {
    "points": "points --annotations truth.json --out points.json --json --quiet",
    "bags": "generate-bags --images IMAGES --points points.json --out bags --sam tiny --device cpu --json --quiet",
    "select": f"select --bags bags --images IMAGES --out run --preset demo --truth truth.json {SMALL} "
    "--set image.short_side=256",
    "train": f"train-seg --labels run/pseudo_labels.json --images IMAGES --out seg --preset demo {SMALL} "
    "--set image.short_sides=[256] --set test.long_side=320 --set test.score_threshold=0.001 "
    "--set test.update_threshold=0.001 --set test.max_per_image=5",
    "predict": "predict --run seg --images IMAGES --images-json truth.json --out predictions.json --draw drawn "
    "--set draw_score=0.001 --json --quiet",
    "verify": "bags verify bags --json --quiet",
    "inspect": "bags inspect bags --truth truth.json --json --quiet",
    "labels": "evaluate --truth truth.json --labels run/pseudo_labels.json --json --quiet",
    "ap": "evaluate --truth truth.json --predictions predictions.json --json --quiet",
}


@pytest.fixture(scope="module")
def tiny_coco() -> Path:
    folder = SHARED / "data" / "tiny-coco"
    if not folder.is_dir():
        pytest.skip(f"no photographs in {folder}: set SAPNET_SHARED to the folder that holds data/tiny-coco")
    return folder


def run_all(truth: dict[str, Any], images: Path, folder: Path, capfd: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """Run the commands in `folder`, one after the other; their results by name."""
    write_json(folder / "truth.json", truth)
    results = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name, command in FIVE_COMMANDS.items():
            code = run(shlex.split(command.replace("IMAGES", shlex.quote(str(images)))))
            said = capfd.readouterr()
            assert code == 0, said.err
            results[name] = json.loads(said.out)
    return results


def check_counts(truth: dict[str, Any], results: dict[str, Any], folder: Path) -> None:
    """Every object that is no crowd has a point, a bag, and a pseudo mask of its own id; crowds are counted."""
    objects = {entry["id"]: entry for entry in truth["annotations"] if not entry["iscrowd"]}
    crowds = len(truth["annotations"]) - len(objects)
    assert crowds > 0
    assert results["points"]["dropped"]["crowd"] == crowds
    assert results["points"]["points"] == len(objects)
    assert results["bags"]["points"] == results["verify"]["points"] == len(objects)
    assert results["inspect"]["points_with_truth"] == len(objects)
    assert results["labels"]["count"] == len(objects)
    assert results["labels"]["missing"] == results["labels"]["extra"] == 0
    labels = read_json(folder / "run/pseudo_labels.json")["annotations"]
    assert {label["id"] for label in labels} == objects.keys()
    assert all(label["category_id"] == objects[label["id"]]["category_id"] for label in labels)
    quality = results["select"]["quality"]
    assert quality["oracle"]["miou"] >= max(quality["chosen"]["miou"], quality["sam_top1"]["miou"])
    assert quality["chosen"]["miou"] == pytest.approx(results["labels"]["miou"])


def check_other_readers(labels: Path, images: Path) -> None:
    """pycocotools and torchvision read the pseudo labels as they are."""
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(labels))
        dataset = wrap_dataset_for_transforms_v2(
            CocoDetection(str(images), str(labels)), target_keys=("boxes", "labels", "masks")
        )
    for annotation in coco.anns.values():
        mask = coco.annToMask(annotation)
        assert mask.sum() == annotation["area"] > 0
        rows, columns = mask.any(axis=1).nonzero()[0], mask.any(axis=0).nonzero()[0]
        left, top = float(columns[0]), float(rows[0])
        assert annotation["bbox"] == [left, top, columns[-1] + 1 - left, rows[-1] + 1 - top]
    for photograph, target in dataset:
        height, width = photograph.size[::-1]
        assert target["masks"].shape == (len(target["labels"]), height, width)
        assert target["masks"].any(dim=2).any(dim=1).all()
        assert target["boxes"].dtype == torch.float32


def check_pictures(folder: Path, images: Path) -> None:
    predictions = read_json(folder / "predictions.json")
    records = {image["id"]: image for image in read_json(folder / "truth.json")["images"]}
    assert predictions, "three steps of training still find something above 0.001"
    drawn = {path.name for path in (folder / "drawn").iterdir()} - {"grid.png"}
    assert drawn == {records[entry["image_id"]]["file_name"] for entry in predictions}
    for name in drawn:
        assert Image.open(folder / "drawn" / name).size == Image.open(images / name).size


def test_all_commands_run_on_three_photographs(
    tiny_coco: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    truth = read_json(tiny_coco / "annotations" / "instances_train2017.json")
    crowded = sorted({entry["image_id"] for entry in truth["annotations"] if entry["iscrowd"]})
    objects = {image: sum(entry["image_id"] == image for entry in truth["annotations"]) for image in crowded}
    others = sorted(image["id"] for image in truth["images"] if image["id"] not in crowded)
    kept = {min(crowded, key=lambda image: objects[image]), *others[:2]}
    truth["images"] = [image for image in truth["images"] if image["id"] in kept]
    truth["annotations"] = [entry for entry in truth["annotations"] if entry["image_id"] in kept]
    _check_all(truth, tiny_coco / "images" / "train2017", tmp_path, capfd)


@pytest.mark.slow
@pytest.mark.parametrize("split", ["train2017", "val2017"])
def test_all_commands_run_on_all_photographs(
    tiny_coco: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], split: str
) -> None:
    truth = read_json(tiny_coco / "annotations" / f"instances_{split}.json")
    _check_all(truth, tiny_coco / "images" / split, tmp_path, capfd)


def _check_all(truth: dict[str, Any], images: Path, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    photographs = {path.name: path.stat().st_mtime_ns for path in images.iterdir()}
    results = run_all(truth, images, folder, capfd)
    check_counts(truth, results, folder)
    check_other_readers(folder / "run/pseudo_labels.json", images)
    check_pictures(folder, images)
    assert {path.name: path.stat().st_mtime_ns for path in images.iterdir()} == photographs
    assert not [name for name in snapshot(folder) if name.endswith(".tmp")]
