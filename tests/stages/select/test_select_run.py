import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sapnet_pipe.data.bag_store.store import BagStore
from sapnet_pipe.data.coco.instances import InstanceDataset
from sapnet_pipe.data.errors import UserError
from sapnet_pipe.data.labels.pseudo_labels import read_pseudo_labels
from sapnet_pipe.stages.select.run import SelectSummary, run
from sapnet_pipe.stages.training.checkpoint import load_checkpoint
from sapnet_pipe.stages.training.run_files import CHECKPOINT
from tests.stages.select.toy_store import toy_config, toy_store

Toy = tuple[BagStore, Path, InstanceDataset]


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    return toy_store(tmp_path_factory.mktemp("toy"))


def select(toy: Toy, out: Path, *, truth: bool = True, resume: bool = False, **changes: Any) -> SelectSummary:
    store, images, dataset = toy
    config = toy_config(**changes)
    return run(store, images, out, config, truth=dataset if truth else None, resume=resume, quiet=True)


def labels_of(out: Path) -> list[dict[str, Any]]:
    return json.loads((out / "pseudo_labels.json").read_text())["annotations"]


def test_every_point_gets_a_label_with_its_reasons(toy: Toy, tmp_path: Path) -> None:
    summary = select(toy, tmp_path)
    assert (summary.images, summary.points, summary.masks, summary.labels) == (6, 12, 36, 12)
    assert summary.dropped == {"empty_mask": 1}
    labels = labels_of(tmp_path)
    assert [label["id"] for label in labels] == list(range(1, 13))
    for label in labels:
        assert 0 <= label["score"] <= 1
        assert 0 <= label["psm_score"] <= 1
        assert 0 <= label["prm_score"] <= 1
        assert len(label["alternates"]) == 2
        assert 0 <= label["box_prm"][0] < label["box_prm"][2] <= 64
    assert len(read_pseudo_labels(tmp_path / "pseudo_labels.json").annotations) == 12
    json.dumps(summary.to_dict(), allow_nan=False)


def test_the_truth_tells_what_each_choice_is_worth(toy: Toy, tmp_path: Path) -> None:
    quality = select(toy, tmp_path).quality
    assert quality is not None
    assert quality["oracle"]["miou"] == pytest.approx(1.0)
    assert quality["token_2"]["miou"] == pytest.approx(1.0)
    assert quality["token_1"]["miou"] == pytest.approx(81 / 400, abs=0.01)
    assert {"sam_top1", "largest", "psm", "chosen"} <= quality.keys()
    last = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["event"] == "selection"
    assert last["miou_oracle"] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("method", "miou"), [("sam-top1", None), ("largest", 0.35), ("oracle", 1.0)]
)  # fmt: skip
def test_methods_without_training_need_no_image(toy: Toy, tmp_path: Path, method: str, miou: float | None) -> None:
    store, _, truth = toy
    summary = run(store, tmp_path / "nowhere", tmp_path, toy_config(method=method), truth=truth, quiet=True)
    assert summary.training is None
    assert summary.quality is not None
    assert miou is None or summary.quality["chosen"]["miou"] == pytest.approx(miou, abs=0.05)
    label = labels_of(tmp_path)[0]
    assert label["psm_score"] is None
    assert label["box_prm"] is None
    assert len(label["alternates"]) == 2


def test_the_oracle_without_truth_is_refused(toy: Toy, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="needs the truth"):
        select(toy, tmp_path, method="oracle", truth=False)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"method": "single-mil"}, id="single MIL"),
        pytest.param({"pdg__enabled": False}, id="no PDG"),
        pytest.param({"bms__enabled": False}, id="no BMS"),
        pytest.param({"prm__enabled": False}, id="no PRM"),
        pytest.param({"positives__enabled": False}, id="no positives"),
        pytest.param({"negatives__enabled": False}, id="no negatives"),
        pytest.param({"negatives__random_boxes": 0, "negatives__parts": 0}, id="nothing negative"),
        pytest.param({"train__precision": "bf16-mixed"}, id="bfloat16"),
        pytest.param({"test__flip": True, "test__batch_size": 4}, id="mirrored test"),
        pytest.param({"image__max_points": 1, "image__flip": False}, id="one point per image"),
    ],
)
def test_every_module_can_be_switched_off(toy: Toy, tmp_path: Path, changes: dict[str, Any]) -> None:
    summary = select(toy, tmp_path, truth=False, train__max_iterations=2, **changes)
    assert summary.labels == 12
    label = labels_of(tmp_path)[0]
    assert (label["prm_score"] is None) == (changes.get("method") == "single-mil" or "prm__enabled" in changes)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_other_scores(toy: Toy, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        select(toy, tmp_path / name, seed=seed)
    a, b, c = ((tmp_path / name / "pseudo_labels.json").read_bytes() for name in "abc")
    assert a == b
    assert a != c


def test_batch_size_and_workers_of_the_selection_pass_change_nothing(toy: Toy, tmp_path: Path) -> None:
    select(toy, tmp_path / "one", test__batch_size=1)
    select(toy, tmp_path / "many", test__batch_size=5, test__workers=1)
    for a, b in zip(labels_of(tmp_path / "one"), labels_of(tmp_path / "many"), strict=True):
        assert a["bag_index"] == b["bag_index"]
        assert a["score"] == pytest.approx(b["score"], abs=1e-4)


def test_an_interrupted_run_resumes_to_the_same_labels(
    toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    select(toy, tmp_path / "whole")
    from sapnet_pipe.stages.select import learn
    from sapnet_pipe.stages.select.learn import StepLosses

    class Interrupted(StepLosses):
        calls = 0

        def __call__(self, *arguments: Any) -> dict[str, torch.Tensor]:
            Interrupted.calls += 1
            if Interrupted.calls == 4:
                raise KeyboardInterrupt
            return super().__call__(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(learn, "StepLosses", Interrupted)
        with pytest.raises(KeyboardInterrupt):
            select(toy, tmp_path / "cut")
    assert load_checkpoint(tmp_path / "cut" / CHECKPOINT).iteration == 2
    select(toy, tmp_path / "cut", resume=True)
    names = ("pseudo_labels.json",)
    assert [(tmp_path / "whole" / n).read_bytes() for n in names] == [
        (tmp_path / "cut" / n).read_bytes() for n in names
    ]
    select(toy, tmp_path / "cut", resume=True)  # a finished run only selects again
    assert (tmp_path / "whole" / names[0]).read_bytes() == (tmp_path / "cut" / names[0]).read_bytes()


def test_a_missing_photograph_is_found_before_the_training(toy: Toy, tmp_path: Path) -> None:
    store, images, _ = toy
    for name in ("1.png", "2.png"):
        (tmp_path / name).write_bytes((images / name).read_bytes())
    with pytest.raises(UserError, match=r"image 3\.file_name = .*3\.png, but there is no such image"):
        run(store, tmp_path, tmp_path / "out", toy_config(), quiet=True)


def test_a_truth_of_other_points_is_refused(toy: Toy, tmp_path: Path) -> None:
    store, images, truth = toy
    strange = InstanceDataset(truth.source, truth.images, truth.categories, ())
    with pytest.raises(UserError, match="none of which holds any of 12 clicks"):
        run(store, images, tmp_path, toy_config(method="largest"), truth=strange, quiet=True)


def test_training_learns_the_classes_and_beats_the_parts(toy: Toy, tmp_path: Path) -> None:
    summary = select(toy, tmp_path, train__max_iterations=60, train__batch_size=4, guard__enabled=False)
    assert summary.training is not None
    assert summary.training["bag_accuracy"] > 0.9
    assert summary.training["chance"] == 0.5
    assert not summary.training["at_chance"]
    assert np.isfinite(summary.training["metrics"]["loss"])
