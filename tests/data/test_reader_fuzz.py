"""Whatever a user's file holds, the readers give an answer or a UserError of one line, never another exception."""

import contextlib
import copy
import json
import random
from pathlib import Path
from typing import Any

import pytest

from sapnet_pipe.data.checks.findings import Findings
from sapnet_pipe.data.checks.preflight import check_labels, check_points
from sapnet_pipe.data.coco.instances import counts_of, read_instances
from sapnet_pipe.data.errors import UserError
from sapnet_pipe.data.evaluation.coco_ap import coco_ap
from sapnet_pipe.data.labels.pseudo_labels import alternates_of, read_pseudo_labels
from sapnet_pipe.data.points.reader import read_points
from sapnet_pipe.data.points.sampling import sample_points

JUNK: list[Any] = [None, True, False, 0, -1, 1.5, 10**30, float("nan"), float("inf"), "", "text", [], {}, [[]], [None]]
JUNK += [{"id": 1}, [1, 2], [[1, 2, 3, 4, 5, 6]], "\0", 2**31, -(2**63), [float("nan")] * 4, 1e308, [1e308] * 6]


def consume(path: Path) -> None:
    """Read the file in every way; stop at the first UserError of each. The checks never raise one."""
    with contextlib.suppress(UserError):
        dataset = read_instances(path)
        for annotation in dataset.annotations:
            if annotation.segmentation is not None:
                counts_of(annotation, dataset.images[annotation.image_id], file=path)
        sample_points(dataset, "quasi-center", 0)
    with contextlib.suppress(UserError):
        read_points(path)
    with contextlib.suppress(UserError):
        labels = read_pseudo_labels(path)
        for annotation in labels.annotations:
            alternates_of(annotation, labels.images[annotation.image_id], file=path)
    with contextlib.suppress(UserError):
        coco_ap(path, path)
    for check in (check_points, check_labels):
        check(path, None, Findings(), decode=0, quiet=True)


def places(value: Any, found: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    """Every (container, key) in a JSON value."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else []
    for key in keys:
        found.append((value, key))
        places(value[key], found)
    return found


@pytest.fixture
def everything(instances):
    """A file with every key that any reader looks at."""
    keys = [
        {"point": [4.5, 5]},
        {"keypoints": [4, 5, 2, 6, 6, 1], "score": 0.5, "alternates": [{"size": [10, 20], "counts": [200]}]},
        {"point_coords": [[4, 5]], "point_labels": [1], "bbox": [1, 2, 3, 4], "area": 5.5},
        {"true_bbox": [1, 2, 3, 4], "bbox": [1, 2, 3, 4]},
    ]
    instances["annotations"].append(copy.deepcopy(instances["annotations"][0]) | {"id": 5})
    for entry, more in zip(instances["annotations"], keys, strict=True):
        entry |= more
    return instances


def test_junk_in_any_place_is_answered(everything, save):
    chosen = random.Random(0)
    for number in range(len(places(everything, []))):
        for junk in chosen.sample(JUNK, 4):
            broken = copy.deepcopy(everything)
            container, key = places(broken, [])[number]
            container[key] = copy.deepcopy(junk)
            if number % 3 == 0:
                broken["annotations"] = broken.get("annotations") and everything["annotations"][::-1]
            consume(save(broken))


def test_missing_parts_are_answered(everything, save):
    for number in range(len(places(everything, []))):
        broken = copy.deepcopy(everything)
        container, key = places(broken, [])[number]
        del container[key]
        consume(save(broken))


def test_truncated_and_damaged_files_are_answered(everything, tmp_path):
    whole = json.dumps(everything).encode()
    path = tmp_path / "damaged.json"
    chosen = random.Random(0)
    for _ in range(300):
        damaged = bytearray(whole[: chosen.randrange(len(whole) + 1)] if chosen.random() < 0.3 else whole)
        for _ in range(chosen.randrange(4)):
            if damaged:
                damaged[chosen.randrange(len(damaged))] = chosen.choice(b'0123456789-.eE"[]{},:tn\x00\xff')
        path.write_bytes(bytes(damaged))
        consume(path)


def test_damaged_csv_files_are_answered(tmp_path):
    whole = b"file_name,x,y,category\na.png,1,2,cup\nb.png,3.5,4,cat\n"
    path = tmp_path / "damaged.csv"
    chosen = random.Random(0)
    for _ in range(300):
        damaged = bytearray(whole[: chosen.randrange(1, len(whole) + 1)])
        damaged[chosen.randrange(len(damaged))] = chosen.choice(b'0,"\n\r\x00\xffe;')
        path.write_bytes(bytes(damaged))
        with contextlib.suppress(UserError):
            read_points(path, tmp_path)
        check_points(path, tmp_path, Findings(), decode=0, quiet=True)
