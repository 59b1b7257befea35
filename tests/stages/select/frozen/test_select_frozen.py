"""Training on frozen features: what they are, where they are kept, and that heads learn from them."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sapnet_pipe.data.bag_store.manifest import BagIdentity
from sapnet_pipe.data.bag_store.store import BagStore
from sapnet_pipe.data.bag_store.writer import open_writer
from sapnet_pipe.data.errors import UserError
from sapnet_pipe.stages.select.batches.bag_images import BagImages, group_images
from sapnet_pipe.stages.select.batches.loader import InferenceBatches
from sapnet_pipe.stages.select.config import HeadConfig, ImageConfig
from sapnet_pipe.stages.select.frozen.map_features import box_means, summed_area
from sapnet_pipe.stages.select.frozen.mask_features import MaskFeatureReader, MaskProvider
from sapnet_pipe.stages.select.run import run
from tests.stages.select.toy_store import toy_config, toy_store

SHORT = {"frozen__enabled": True, "frozen__max_iterations": 6, "frozen__batch_size": 3, "frozen__grid": 8}


def test_the_mean_of_a_box_is_that_of_its_cells() -> None:
    cells = np.random.default_rng(0).normal(size=(8, 8, 3)).astype(np.float16)
    table = torch.from_numpy(summed_area(cells, np.zeros(3, np.float32), np.ones(3, np.float32)))[None]
    boxes = torch.tensor([[1.0, 2, 5, 6], [0, 0, 8, 8], [2.5, 2, 3.5, 3]])
    found = box_means(table, boxes, torch.zeros(3, dtype=torch.long), 1)
    wanted = [
        cells[2:6, 1:5].mean((0, 1), np.float32),
        cells.mean((0, 1), np.float32),
        cells[2, 2:4].mean(0, np.float32),
    ]
    torch.testing.assert_close(found, torch.from_numpy(np.stack(wanted)), atol=1e-5, rtol=1e-4)


def test_parts_of_a_box_are_boxes_of_their_own() -> None:
    cells = np.random.default_rng(1).normal(size=(8, 8, 2)).astype(np.float16)
    table = torch.from_numpy(summed_area(cells, np.zeros(2, np.float32), np.ones(2, np.float32)))[None]
    image = torch.zeros(1, dtype=torch.long)
    whole = box_means(table, torch.tensor([[0.0, 0, 6, 6]]), image, 2).view(2, 2, 2)
    lower_left = box_means(table, torch.tensor([[0.0, 3, 3, 6]]), image, 1)
    torch.testing.assert_close(whole[1, 0][None], lower_left)


def test_outside_of_the_map_there_is_nothing() -> None:
    table = torch.from_numpy(
        summed_area(np.ones((4, 4, 1), np.float16), np.zeros(1, np.float32), np.ones(1, np.float32))
    )
    boxes = torch.tensor([[-2.0, 0, 2, 4], [6, 6, 9, 9], [1, 1, 1, 1]])
    found = box_means(table[None], boxes, torch.zeros(3, dtype=torch.long), 1)
    torch.testing.assert_close(found, torch.tensor([[0.5], [0.0], [0.0]]))


def test_features_are_computed_once_and_lie_beside_the_store(tmp_path: Path) -> None:
    store, images, truth = toy_store(tmp_path)
    summary = run(store, images, _made(tmp_path / "a"), toy_config(**SHORT), truth=truth, quiet=True)
    (known,) = (tmp_path / "bags.features").iterdir()
    before = {path.name: path.stat().st_mtime_ns for path in known.iterdir()}
    assert before.keys() == {"maps.npy", "about.json"}
    again = run(store, images, _made(tmp_path / "b"), toy_config(**SHORT), truth=truth, quiet=True)
    assert {path.name: path.stat().st_mtime_ns for path in known.iterdir()} == before
    assert again.quality == summary.quality
    assert summary.labels == len(store.read_table())


def test_another_backbone_has_other_features(tmp_path: Path) -> None:
    store, images, _ = toy_store(tmp_path)
    run(store, images, _made(tmp_path / "a"), toy_config(**SHORT), quiet=True)
    run(store, images, _made(tmp_path / "b"), toy_config(**SHORT, seed=1), quiet=True)
    assert len(list((tmp_path / "bags.features").iterdir())) == 2


def test_the_backbone_of_a_run_can_be_taken(tmp_path: Path) -> None:
    store, images, _ = toy_store(tmp_path)
    run(store, images, _made(tmp_path / "full"), toy_config(), quiet=True)
    weights = {"frozen__weights": str(tmp_path / "full"), "frozen__cache": str(tmp_path / "kept")}
    for name, seed in (("a", 0), ("b", 1)):
        run(store, images, _made(tmp_path / name), toy_config(**SHORT, **weights, seed=seed), quiet=True)
    screened = [json.loads((tmp_path / name / "pseudo_labels.json").read_text())["info"] for name in ("full", "a")]
    assert [info.get("frozen", False) for info in screened] == [False, True]
    assert len(list((tmp_path / "kept").iterdir())) == 1


def test_an_interrupted_computation_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, images, _ = toy_store(tmp_path)

    def vanished(self: BagImages, image: int, transform: object) -> None:
        raise UserError("bags", "file_name", "6.png", "but it is not there any more", "Put it back")

    monkeypatch.setattr(BagImages, "read", vanished)
    with pytest.raises(UserError, match=r"6\.png"):
        run(store, images, _made(tmp_path / "a"), toy_config(**SHORT), quiet=True)
    assert list((tmp_path / "bags.features").iterdir()) == []


def test_a_resumed_training_gives_the_same_labels(tmp_path: Path) -> None:
    store, images, _ = toy_store(tmp_path)
    run(store, images, _made(tmp_path / "a"), toy_config(**SHORT), quiet=True)
    shorter = toy_config(**{**SHORT, "frozen__max_iterations": 6}, train__checkpoint_every=3)
    run(store, images, _made(tmp_path / "b"), shorter, quiet=True)
    run(store, images, tmp_path / "b", shorter, resume=True, quiet=True)
    labels = [(tmp_path / name / "pseudo_labels.json").read_bytes() for name in "ab"]
    assert labels[0] == labels[1]


def test_heads_learn_the_classes_from_frozen_features(tmp_path: Path) -> None:
    store, images, truth = toy_store(tmp_path, images=12)
    longer = {**SHORT, "frozen__max_iterations": 60, "frozen__lr": 0.01}
    summary = run(store, images, _made(tmp_path / "a"), toy_config(**longer), truth=truth, quiet=True)
    assert summary.training is not None
    assert summary.training["bag_accuracy"] > 0.9


@pytest.fixture
def with_features(tmp_path: Path) -> BagStore:
    """The toy store with features that say the class and the size of a mask."""
    store, _, _ = toy_store(tmp_path / "plain", images=12)
    identity = BagIdentity("toy", "0" * 64, "toy", {"features": True}, "float32", "0" * 64, 12)
    bags = []
    for bag in store.iter_bags():
        sides = np.sqrt(bag.masks.area)[:, None]
        label = np.full_like(sides, bag.category_id)
        feature = np.concatenate([label * (sides == 20), sides / 10, np.ones_like(sides)], axis=1)
        bags.append(replace(bag, masks=replace(bag.masks, feature=feature.astype(np.float16))))
    with open_writer(tmp_path / "bags", identity, store.categories, 1) as writer:
        writer.write_shard(0, bags, {})
        writer.finish({})
    return BagStore.open(tmp_path / "bags")


def test_with_features_of_sam_no_image_is_opened(with_features: BagStore, tmp_path: Path) -> None:
    config = toy_config(**{**SHORT, "frozen__max_iterations": 60, "frozen__lr": 0.01})
    summary = run(with_features, tmp_path / "no images", _made(tmp_path / "run"), config, quiet=True)
    assert summary.training is not None
    assert summary.training["bag_accuracy"] > 0.8
    assert not (tmp_path / "bags.features").exists()


def test_scaled_boxes_are_interpolated_between_the_masks_of_their_bag(with_features: BagStore) -> None:
    table = with_features.read_table()
    images = group_images(table, with_features.categories, Path("no images"), with_features.folder)
    reader = MaskFeatureReader.read(with_features)
    assert reader is not None
    given = InferenceBatches(images, ImageConfig(short_side=64, long_side=64), 1, reader)(0)
    features = MaskProvider(*reader.statistics(), HeadConfig(channels=32))(given, tta=False)
    (known,) = features.of_bags()
    part, whole = given.boxes[:, 0], given.boxes[:, 1]
    near_whole = whole + torch.tensor([0.0, 0, -1, -1])
    (found,) = features.of_scaled(torch.stack([whole, near_whole, part], dim=1))
    assert ((found[:, 0] - known[:, 1]).norm(dim=1) < 0.02 * known[:, 1].norm(dim=1)).all()
    for place, nearest in ((1, 1), (2, 0)):
        distance = (found[:, place, None] - known).norm(dim=2)
        assert (distance.argmin(dim=1) == nearest).all()


def test_features_of_sam_that_are_missing_are_asked_for(tmp_path: Path) -> None:
    store, images, _ = toy_store(tmp_path)
    config = toy_config(**SHORT, frozen__features="sam")
    with pytest.raises(UserError, match="Make the bags with --features"):
        run(store, images, _made(tmp_path / "run"), config, quiet=True)


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder
