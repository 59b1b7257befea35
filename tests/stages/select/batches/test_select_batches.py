from pathlib import Path

import numpy as np
import pytest
import torch

from sapnet_pipe.data.bag_store.masks import MaskFigures
from sapnet_pipe.data.bag_store.table import BagTable
from sapnet_pipe.data.coco.instances import Category
from sapnet_pipe.stages.select.batches.bag_images import BagImages, group_images, padded_bags
from sapnet_pipe.stages.select.batches.loader import InferenceBatches, TrainBatches
from sapnet_pipe.stages.select.config import ImageConfig
from sapnet_pipe.stages.training.distributed import World
from sapnet_pipe.stages.training.image_batch import batch_images, resize_transform
from tests.stages.select.toy_store import toy_store

CONFIG = ImageConfig(short_side=64, long_side=64)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> BagImages:
    store, folder, _ = toy_store(tmp_path_factory.mktemp("toy"))
    return group_images(store.read_table(), store.categories, folder, store.folder)


def ragged_table(sizes: list[int]) -> BagTable:
    count, total = len(sizes), sum(sizes)
    return BagTable(
        image_id=np.arange(count, dtype=np.int64), file_name=np.array(["a.png"] * count, object),
        height=np.full(count, 64, np.int32), width=np.full(count, 64, np.int32),
        point_id=np.arange(count, dtype=np.int64), category_id=np.full(count, 7, np.int32),
        point_xy=np.zeros((count, 2), np.float32), offsets=np.cumsum([0, *sizes]).astype(np.int64),
        masks=MaskFigures(
            box_xyxy=np.arange(4 * total, dtype=np.float32).reshape(total, 4), score=np.ones(total, np.float32),
            stability=np.ones(total, np.float32), area=np.ones(total, np.int32), source=np.ones(total, np.int8),
        ),
    )  # fmt: skip


def test_ragged_bags_are_padded_with_zeros() -> None:
    table = ragged_table([1, 3, 2])
    boxes, valid = padded_bags(table, np.array([2, 0]))
    assert valid.tolist() == [[True, True], [True, False]]
    assert np.array_equal(boxes[0], table.masks.box_xyxy[4:6])
    assert boxes[1, 1].tolist() == [0, 0, 0, 0]


def test_classes_are_numbered_by_ascending_category_id() -> None:
    categories = (Category(9, "b"), Category(7, "a"))
    grouped = group_images(ragged_table([1, 1]), categories, Path(), Path())
    assert grouped.class_index.tolist() == [0, 0]
    assert len(group_images(ragged_table([]), categories, Path(), Path())) == 0


def test_every_image_comes_once_per_epoch_in_another_order(images: BagImages) -> None:
    batches = TrainBatches(images, CONFIG, 2, seed=0)
    epochs = [torch.cat([batches(3 * epoch + i).rows for i in range(3)]).tolist() for epoch in range(2)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(12))
    assert epochs[0] != epochs[1]


def test_a_batch_is_a_function_of_seed_and_iteration(images: BagImages) -> None:
    first, second = TrainBatches(images, CONFIG, 2, seed=4), TrainBatches(images, CONFIG, 2, seed=4)
    first(0), first(1)
    for a, b in zip(first(7), second(7), strict=True):
        assert torch.equal(a, b) if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor) else a == b
    assert not torch.equal(TrainBatches(images, CONFIG, 2, seed=5)(7).inputs, second(7).inputs)


@pytest.mark.parametrize("processes", [2, 3])
def test_the_shares_of_several_processes_are_the_whole_batch(images: BagImages, processes: int) -> None:
    config = ImageConfig(short_side=64, long_side=64, max_points=1)
    whole = TrainBatches(images, config, 4, seed=2)(5)
    shares = [TrainBatches(images, config, 4, seed=2, world=World(rank, processes))(5) for rank in range(processes)]
    for name in ("inputs", "rows", "boxes", "point_xy", "class_index"):
        assert torch.equal(torch.cat([getattr(share, name) for share in shares]), getattr(whole, name)), name
    found = torch.cat([share.neighbours_valid.sum(dim=1) for share in shares])
    assert torch.equal(found, whole.neighbours_valid.sum(dim=1))
    assert {(share.whole.images, share.whole.bags) for share in shares} == {(4, len(whole.rows))}
    for share in shares:
        begin = share.whole.first_bag
        assert torch.equal(whole.rows[begin : begin + len(share.rows)], share.rows)
        assert torch.equal(whole.inputs[share.whole.first_image :][: len(share.inputs)], share.inputs)


def test_a_share_is_padded_to_the_largest_image_of_the_whole_batch() -> None:
    pixels = np.zeros((64, 64, 3), np.uint8)
    transforms = [resize_transform(64, 64, 64, 96), resize_transform(32, 96, 32, 96)]
    assert batch_images([pixels], transforms[:1], transforms).shape == (1, 3, 64, 96)
    assert batch_images([pixels], transforms[:1]).shape == (1, 3, 64, 64)


def test_points_boxes_and_pixels_are_mirrored_together(images: BagImages) -> None:
    batches = TrainBatches(images, CONFIG, 6, seed=0)
    plain = InferenceBatches(images, CONFIG, 6)(0)
    mirrored = batches(0)
    order = [int((plain.rows == row).nonzero()) for row in mirrored.rows]
    kinds = set()
    for i, j in enumerate(order):
        flipped = not torch.equal(mirrored.point_xy[i], plain.point_xy[j])
        kinds.add(flipped)
        x = 64 - plain.point_xy[j, 0] if flipped else plain.point_xy[j, 0]
        assert mirrored.point_xy[i, 0] == x
        box = plain.boxes[j, 1]
        wanted = torch.stack([64 - box[2], box[1], 64 - box[0], box[3]]) if flipped else box
        assert torch.equal(mirrored.boxes[i, 1], wanted)
        a = mirrored.inputs[mirrored.image_index[i]]
        b = plain.inputs[plain.image_index[j]]
        assert torch.equal(a, b.flip(-1) if flipped else b)
    assert kinds == {True, False}


def test_a_crowded_image_is_thinned_for_training_but_keeps_its_neighbours(images: BagImages) -> None:
    thin = TrainBatches(images, ImageConfig(short_side=64, long_side=64, max_points=1), 6, seed=0)(0)
    full = InferenceBatches(images, CONFIG, 6)(0)
    assert len(thin.rows) == 6
    assert len(full.rows) == 12
    for i, row in enumerate(thin.rows):
        j = int((full.rows == row).nonzero())
        assert thin.neighbours_valid[i].sum() == full.neighbours_valid[j].sum()


def test_the_cache_changes_nothing(images: BagImages) -> None:
    cached = TrainBatches(images, ImageConfig(short_side=32, long_side=64, cache_mb=1), 2, seed=0)
    plain = TrainBatches(images, ImageConfig(short_side=32, long_side=64), 2, seed=0)
    for iteration in (0, 3, 0):
        assert torch.equal(cached(iteration).inputs, plain(iteration).inputs)
