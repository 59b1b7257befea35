"""What is read, by whom: a strategy for the bytes of each kind of file, and the function that reads it."""

import io
import json
import pickle
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from hypothesis import strategies as st
from PIL import Image

from sapnet_pipe.data.authors_file.convert import import_bags
from sapnet_pipe.data.bag_store.store import BagStore
from sapnet_pipe.data.checks.findings import Findings
from sapnet_pipe.data.checks.preflight import check_labels, check_points
from sapnet_pipe.data.coco.instances import counts_of, read_instances
from sapnet_pipe.data.coco.masks import encode_mask
from sapnet_pipe.data.errors import UserError
from sapnet_pipe.data.evaluation.coco_ap import coco_ap
from sapnet_pipe.data.files import read_json
from sapnet_pipe.data.images import image_size, read_image
from sapnet_pipe.data.labels.pseudo_labels import alternates_of, read_pseudo_labels
from sapnet_pipe.data.points.reader import read_points
from sapnet_pipe.data.points.sampling import sample_points
from sapnet_pipe.pipeline.ablate.results import gather, plan_file
from sapnet_pipe.pipeline.ablate.settings import AblateSettings
from sapnet_pipe.pipeline.run_folder import open_run
from sapnet_pipe.pipeline.settings import resolve_settings, to_toml
from sapnet_pipe.stages.bags.verify import verify
from sapnet_pipe.stages.segment.config import SegmentConfig
from sapnet_pipe.stages.segment.weights.model_file import read_description
from sapnet_pipe.stages.segment.weights.pickled_weights import read_arrays
from sapnet_pipe.stages.select.config import SelectConfig
from sapnet_pipe.stages.training.backbone import load_trunk
from sapnet_pipe.stages.training.checkpoint import FORMAT, load_checkpoint, load_tensors, unwrapped
from sapnet_pipe.stages.training.metric_log import read_records
from sapnet_pipe.stages.training.resnet import ResNetTrunk
from tests.data.bag_store.bag_examples import write_store
from tests.fuzz.mutations import (
    Mutation,
    mutated_bytes,
    mutated_json,
    mutated_parquet,
    mutated_tensors,
    mutated_text,
)


@dataclass(frozen=True)
class Reader:
    """A kind of file: the strategy of its bytes, where they are written, and what reads them or raises a UserError."""

    content: Mutation
    file: Path
    read: Callable[[Path], object]


def all_readers(folder: Path) -> dict[str, Reader]:
    """Every reader by the name of its format; their sound files are made in `folder`."""
    photographs = _photographs(folder / "photographs")
    truth = _truth()
    sound = folder / "truth.json"
    sound.write_bytes(_dumped(truth))
    return {
        "points-json": Reader(mutated_json(_points()), folder / "points.json", _read_points),
        "points-csv": Reader(mutated_text(_CSV), photographs / "points.csv", _read_points),
        "instances": Reader(mutated_json(truth), folder / "instances.json", _read_instances),
        "labels": Reader(mutated_json(truth), folder / "labels.json", _read_labels),
        "predictions": Reader(mutated_json(_results()), folder / "p.json", lambda path: coco_ap(sound, path)),
        "authors-file": Reader(mutated_json(_authors(), deep=200_000), folder / "sam.json", _import),
        "settings-toml": Reader(mutated_text(to_toml(SelectConfig())), folder / "my.toml", _settings),
        "settings-set": Reader(mutated_text("train.lr=0.1,train.milestones=[0.5],seed=3\n"), folder / "set", _assign),
        "ablation-toml": Reader(mutated_text(_PLAN), folder / "plan.toml", _plan),
        "metrics": Reader(mutated_text('{"iteration": 1, "loss": 0.5}\n' * 4), folder / "m/metrics.jsonl", _metrics),
        "images": Reader(_images(), photographs / "x.img", _image),
        **_store_readers(folder),
        **_folder_readers(folder),
        **_weight_readers(folder),
    }


_CSV = "file_name,x,y,category\na.png,1,2,cup\na.png,9,8.5,cat\nb.png,3.5,4,cup\n"
_PLAN = 'title = "t"\nseeds = [0, 1]\n[[variants]]\nname = "a"\nselect = { pdg = { enabled = false } }\n'
_SIZE = 12, 16
_FORMS = (
    *(("JPEG", "RGB"), ("PNG", "RGBA"), ("PNG", "I;16"), ("TIFF", "RGB"), ("TIFF", "F"), ("BMP", "RGB")),
    *(("WEBP", "RGB"), ("GIF", "P"), ("PPM", "RGB")),
)


def _photographs(folder: Path) -> Path:
    folder.mkdir()
    for name in ("a.png", "b.png"):
        Image.new("RGB", _SIZE[::-1], "red").save(folder / name)
    return folder


def _document(annotations: list[dict[str, Any]]) -> dict[str, Any]:
    height, width = _SIZE
    images = [
        {"id": n, "file_name": f"{name}.png", "height": height, "width": width} for n, name in ((1, "a"), (2, "b"))
    ]
    return {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 3, "name": "cup"}, {"id": 5, "name": "cat"}],
    }


def _rle() -> dict[str, Any]:
    mask = np.zeros(_SIZE, bool)
    mask[2:6, 3:9] = True
    return {"size": list(_SIZE), "counts": encode_mask(mask).decode()}


def _points() -> dict[str, Any]:
    forms: list[dict[str, Any]] = [
        {"point": [4.5, 5]},
        {"keypoints": [4, 5, 2, 6, 6, 1]},
        {"point_coords": [[4, 5]], "point_labels": [1]},
        {"true_bbox": [1, 2, 3, 4], "bbox": [1, 2, 3, 4]},
    ]
    return _document([{"id": n, "image_id": 1, "category_id": 3, "iscrowd": 0, **form} for n, form in enumerate(forms)])


def _truth() -> dict[str, Any]:
    polygon = {"segmentation": [[1, 1, 9, 1, 9, 9]], "bbox": [1, 1, 8, 8], "area": 32.0, "score": 0.5}
    runs = {
        "segmentation": {"size": list(_SIZE), "counts": [20, 30, 142]},
        "alternates": [_rle()],
        "mask_confidence": 1,
    }
    entries: list[dict[str, Any]] = [polygon, runs, {"segmentation": _rle(), "iscrowd": 1}]
    return _document([{"id": n, "image_id": 1 + n % 2, "category_id": 3, **entry} for n, entry in enumerate(entries)])


def _results() -> list[dict[str, Any]]:
    return [
        {"image_id": 1, "category_id": 3, "score": 0.5, "segmentation": _rle(), "bbox": [3, 2, 6, 4]},
        {"image_id": 2, "category_id": 5, "score": 1, "segmentation": {"size": list(_SIZE), "counts": [20, 30, 142]}},
    ]


def _authors() -> dict[str, Any]:
    lists = {
        "segmentation": [_rle(), [[1, 1, 9, 1, 9, 9]]],
        "bbox": [[3, 2, 6, 4], [1, 1, 8, 8]],
        "scores": [0.5, None],
    }
    entry = {"image_id": 1, "category_id": 3, "point": [4, 4], "true_bbox": [1, 1, 8, 8]}
    return _document([{"id": n, **entry, **lists, "scores": [0.5]} for n in range(2)])


def _dumped(document: Any) -> bytes:
    return json.dumps(document).encode()


def _read_points(path: Path) -> None:
    check_points(path, path.parent, Findings(), decode=0, quiet=True)
    read_points(path, path.parent)


def _read_instances(path: Path) -> None:
    check_labels(path, None, Findings(), decode=0, quiet=True)
    dataset = read_instances(path)
    for annotation in dataset.annotations:
        if annotation.segmentation is not None:
            counts_of(annotation, dataset.images[annotation.image_id], file=path)
    sample_points(dataset, "quasi-center", 0)


def _read_labels(path: Path) -> None:
    labels = read_pseudo_labels(path)
    for annotation in labels.annotations:
        alternates_of(annotation, labels.images[annotation.image_id], file=path)


def _import(path: Path) -> None:
    out = path.with_suffix(".bags")
    shutil.rmtree(out, ignore_errors=True)
    import_bags(path, out, quiet=True)


def _settings(path: Path) -> None:
    resolve_settings(SelectConfig, file=path)
    resolve_settings(SegmentConfig, file=path)


def _assign(path: Path) -> None:
    resolve_settings(SelectConfig, assignments=path.read_text(errors="replace").split(","))


def _plan(path: Path) -> None:
    resolve_settings(AblateSettings, file=path)


def _metrics(path: Path) -> None:
    read_records(path.parent)


def _images() -> Mutation:
    picture = Image.effect_noise(_SIZE[::-1], 90)
    files = []
    for form, mode in _FORMS:
        stream = io.BytesIO()
        picture.convert(mode).save(stream, form)
        files.append(mutated_bytes(stream.getvalue()))
    return st.one_of(files)


def _image(path: Path) -> None:
    image_size(path)
    read_image(path, *_SIZE, file=path, field="file_name")


def _store_readers(folder: Path) -> dict[str, Reader]:
    write_store(folder / "store")
    shard = sorted((folder / "store").glob("*.parquet"))[0]
    manifest = read_json(folder / "store" / "manifest.json")

    def read(path: Path) -> None:
        if path == shard:  # the manifest knows its length
            entry = next(entry for entry in manifest["shards"] if entry["file"] == shard.name)
            changed = {**entry, "bytes": path.stat().st_size}
            shards = [changed if other is entry else other for other in manifest["shards"]]
            (path.parent / "manifest.json").write_bytes(_dumped({**manifest, "shards": shards}))
        with suppress(UserError):
            verify(path.parent, quiet=True)  # which knows the checksum: the rows are read whatever it says
        found = BagStore.open(path.parent)
        found.read_table()
        list(found.iter_bags())

    return {
        "shard": Reader(mutated_parquet(pq.read_table(shard)), shard, read),
        "manifest": Reader(mutated_json(manifest), folder / "store" / "manifest.json", read),
    }


def _folder_readers(folder: Path) -> dict[str, Reader]:
    config, inputs = SelectConfig(), {"bags": "0" * 64}
    run = folder / "run"
    with open_run(run, command="select", settings=config, inputs=inputs, seed=0, resume=False):
        pass

    def resume(path: Path) -> None:
        sound = {name: (run / name).read_bytes() for name in ("manifest.json", "config.toml") if run / name != path}
        try:
            with open_run(run, command="select", settings=config, inputs=inputs, seed=0, resume=True):
                pass
        finally:
            for name, content in sound.items():
                (run / name).write_bytes(content)

    plan = {"ablation": "a", "title": "t", "bags": "b", "compare": "first", "variants": ["v"],
            "runs": [{"variant": "v", "seed": 0, "select": "s", "segment": None}]}  # fmt: skip
    figures = {"miou": 0.5, "share_50": 0.5, "share_75": 0.5, "by_group": {"alone": {"count": 1, "miou": 0.5}}}
    names = ("chosen", "sam_top1", "largest", "token_1", "token_2", "token_3", "oracle")
    training = {"at_chance": False, "restarts": [], "bag_accuracy": 0.5}
    found = {"quality": dict.fromkeys(names, figures), "training": training, "fallback": None}
    result = {"status": "complete", "result": found}
    out = folder / "ablation"
    finished = out / "runs" / "s" / "manifest.json"
    finished.parent.mkdir(parents=True)
    finished.write_bytes(_dumped(result))
    file = plan_file(out, "a")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(_dumped(plan))

    def report(path: Path) -> None:
        try:
            gather(out, "a")
        finally:
            for other, content in ((finished, result), (file, plan)):
                if other != path:
                    other.write_bytes(_dumped(content))

    return {
        "run-config": Reader(mutated_text(to_toml(config)), run / "config.toml", resume),
        "run-manifest": Reader(mutated_json(read_json(run / "manifest.json")), run / "manifest.json", resume),
        "ablation-plan": Reader(mutated_json(plan), file, report),
        "ablation-run": Reader(mutated_json(result), finished, report),
    }


def _weight_readers(folder: Path) -> dict[str, Reader]:
    trunk = ResNetTrunk("resnet10", "gn", 16)
    state = dict(list(trunk.state_dict().items())[:3])
    checkpoint = {"format": FORMAT, "model": state, "optimizer": {"state": {}, "param_groups": []},
                  "scaler": {}, "iteration": 3, "seed": 0, "metrics_bytes": 10, "progress": {}}  # fmt: skip
    arrays = {
        "model": {"stem.conv1.weight": np.zeros((2, 3), np.float32), "res2.0.conv1.weight": np.ones(4, np.float32)}
    }

    def weights(path: Path) -> None:
        found = unwrapped(load_tensors(path))
        with suppress(UserError):
            load_trunk(trunk, found, str(path))

    description = SegmentConfig().model_dump(mode="json")
    model = {
        "categories": [{"category_id": 1, "name": "a"}],
        **{k: description[k] for k in ("backbone", "head", "test")},
    }
    return {
        "checkpoint": Reader(mutated_tensors(checkpoint), folder / "last.pt", load_checkpoint),
        "weights": Reader(mutated_tensors({"state_dict": state}), folder / "weights.pth", weights),
        "weights-pkl": Reader(mutated_bytes(pickle.dumps(arrays, 2)), folder / "R-50.pkl", read_arrays),
        "model-json": Reader(mutated_json(model), folder / "model.json", read_description),
    }


def answer(reader: Reader, content: bytes) -> str:
    """``accepted``, or ``refused`` by a UserError of one printable line; whatever else is raised is a fault."""
    reader.file.parent.mkdir(parents=True, exist_ok=True)
    reader.file.write_bytes(content)
    try:
        reader.read(reader.file)
    except UserError as error:
        line = str(error)
        if "\n" in line or not line.isprintable():
            raise ValueError(f"a message that is not one printable line: {line!r}") from error
        return "refused"
    return "accepted"
