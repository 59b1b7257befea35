"""Training labels: what is kept, what is counted, how batches are drawn."""

import json

import numpy as np
import pytest
import torch

from sapnet_pipe.data.errors import UserError
from sapnet_pipe.stages.segment.batches import TrainBatches
from sapnet_pipe.stages.segment.labels import read_labels, read_masks, read_truth
from tests.stages.segment.segment_scenes import tiny_config, write_scenes


def _change(path, edit):
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def _batches(labels, **changes):
    config = tiny_config(**changes)
    return TrainBatches(labels, config.image, config.head, config.train.batch_size, config.seed)


def test_crowds_and_empty_masks_are_left_out_and_counted(tmp_path):
    path = write_scenes(tmp_path / "s", [2, 0], crowd=True)
    empty = {"size": [96, 128], "counts": [96 * 128]}
    _change(path, lambda c: c["annotations"].append({**c["annotations"][0], "id": 99, "segmentation": empty}))
    labels = read_labels(path, tmp_path / "s/images", with_alternates=True)
    assert labels.dropped == {"crowd": 2, "empty mask": 1}
    assert [len(image.counts) for image in labels.images] == [2, 0]


def test_polygons_train_like_run_lengths(tmp_path):
    path = write_scenes(tmp_path / "s", [1])
    square = [[10, 10, 40, 10, 40, 30, 10, 30]]
    _change(path, lambda c: c["annotations"][0].update(segmentation=square))
    (image,) = read_labels(path, tmp_path / "s/images", with_alternates=True).images
    masks, alternates = read_masks(image)
    assert masks.shape == (1, 96, 128)
    assert masks.sum() == 600
    assert alternates[0].shape == (0, 96, 128)


def test_alternates_are_read_only_where_they_train(tmp_path):
    path = write_scenes(tmp_path / "s", [2], alternates=True)
    with_them = read_labels(path, tmp_path / "s/images", with_alternates=True)
    without = read_labels(path, tmp_path / "s/images", with_alternates=False)
    assert [len(a) for a in with_them.images[0].alternates] == [2, 2]
    assert [len(a) for a in without.images[0].alternates] == [0, 0]
    batch = _batches(with_them)(0)
    assert batch.targets[0].alternates.shape == (2, 2)


def test_labels_that_are_not_sure_enough_are_left_out_and_counted(tmp_path):
    path = write_scenes(tmp_path / "s", [4])

    def rate(content):
        for annotation, sure in zip(content["annotations"], ({"confidence": 0.6, "score": 0.1}, {"confidence": 0.4},
                                                              {"score": 0.4}, {}), strict=True):  # fmt: skip
            annotation.pop("score", None)
            annotation.update(sure)

    _change(path, rate)
    labels = read_labels(path, tmp_path / "s/images", with_alternates=True, min_score=0.5)
    assert labels.dropped == {"confidence under 0.5": 2}
    assert [len(image.counts) for image in labels.images] == [2]  # the sure one, and the one that says nothing
    assert read_labels(path, tmp_path / "s/images", with_alternates=True).dropped == {}
    _change(path, lambda content: content["annotations"][0].update(confidence="high"))
    with pytest.raises(UserError, match=r"confidence = high, which is not a finite number"):
        read_labels(path, tmp_path / "s/images", with_alternates=True, min_score=0.5)


def test_labels_without_any_object_are_refused(tmp_path):
    path = write_scenes(tmp_path / "s", [0, 0], crowd=True)
    with pytest.raises(UserError, match="can be trained on"):
        read_labels(path, tmp_path / "s/images", with_alternates=True)


def test_a_missing_photograph_is_named_before_the_training(tmp_path):
    path = write_scenes(tmp_path / "s", [1, 1])
    (tmp_path / "s/images/002.png").unlink()
    with pytest.raises(UserError, match=r"image 2\.file_name = .*002\.png"):
        read_labels(path, tmp_path / "s/images", with_alternates=True)


def test_a_damaged_mask_is_named_before_the_training(tmp_path):
    path = write_scenes(tmp_path / "s", [1, 1])
    _change(path, lambda c: c["annotations"][1]["segmentation"].update(counts="PPP"))
    with pytest.raises(UserError, match="annotation 2"):
        read_labels(path, tmp_path / "s/images", with_alternates=True)


def test_batches_are_a_function_of_seed_and_iteration(tmp_path):
    labels = read_labels(write_scenes(tmp_path / "s", [2, 1, 0, 3]), tmp_path / "s/images", with_alternates=True)
    changes = {"image": {"short_sides": [64, 96]}}
    first, second = _batches(labels, **changes), _batches(labels, **changes)
    for iteration in (5, 0, 5):
        one, other = first(iteration), second(iteration)
        assert torch.equal(one.images, other.images)
        assert all(torch.equal(a.cell, b.cell) for a, b in zip(one.targets, other.targets, strict=True))
    assert not torch.equal(first(5).images, _batches(labels, seed=1, **changes)(5).images)


def test_an_epoch_shows_every_image_once(tmp_path):
    labels = read_labels(write_scenes(tmp_path / "s", [1, 2, 3, 0]), tmp_path / "s/images", with_alternates=True)
    batches = _batches(labels, image={"flip": False})
    seen = [len(target.alternates) for iteration in (0, 1) for target in batches(iteration).targets]
    assert sorted(seen) == sorted(len(image.counts) for image in labels.images)


def test_masks_follow_their_photograph_when_it_is_mirrored_and_resized(tmp_path):
    labels = read_labels(write_scenes(tmp_path / "s", [1, 1, 1, 1]), tmp_path / "s/images", with_alternates=True)
    batches = _batches(labels, image={"short_sides": [192], "long_side": 256})
    for iteration in range(3):
        batch = batches(iteration)
        for image, target in zip(batch.images, batch.targets, strict=True):
            inside = torch.from_numpy(target.masks[0].numpy().astype(bool))
            spread = image.std(0)[1::4, 1::4]  # the background is grey, the objects are not
            assert spread[inside].mean() > 3 * spread[~inside].mean()


def test_objects_that_no_cell_can_predict_are_named_with_the_reason(tmp_path):
    path = write_scenes(tmp_path / "s", [2], seed=3)
    one_pixel = np.zeros((96, 128), bool)
    one_pixel[0, 0] = True

    def edit(content):
        from tests.stages.segment.segment_scenes import _rle

        content["annotations"][0]["segmentation"] = _rle(one_pixel)

    _change(path, edit)
    labels = read_labels(path, tmp_path / "s/images", with_alternates=True)
    small = _batches(labels, image={"short_sides": [32], "flip": False}, train={"batch_size": 1})
    assert small(0).untrained == ((1, "gone in the resize"),)
    ranges = {"scale_ranges": [[200, 300], [400, 500]]}
    none = _batches(labels, head=ranges, train={"batch_size": 1})
    assert {reason for _, reason in none(0).untrained} == {"too large or small for every level"}


def test_annotations_without_a_mask_are_left_out_of_training_and_measuring(tmp_path):
    path = write_scenes(tmp_path / "s", [2, 2], seed=3)

    def edit(content):
        content["annotations"][0]["segmentation"] = []
        content["annotations"][1]["segmentation"] = [[1, 2, 3, 4]]

    _change(path, edit)
    labels = read_labels(path, tmp_path / "s/images", with_alternates=True)
    assert labels.dropped["without mask"] == 2
    assert "1 polygons have fewer than three corners" in labels.notes[0]
    truth, remarks = read_truth(path, labels)
    assert len(truth.annotations) == 2
    assert any("2 annotations have no mask" in line for line in remarks)
