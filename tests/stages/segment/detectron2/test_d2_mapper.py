"""Masks and alternates through every augmentation, all dialects of masks, and what register_coco_instances reads."""

from tests.stages.segment.detectron2 import d2_host  # noqa: F401  # skips these tests where there is no Detectron2

# isort: split
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, DatasetMapper, MetadataCatalog
from detectron2.data import transforms as T
from detectron2.data.datasets import register_coco_instances
from PIL import Image

from sapnet_pipe.data.coco.masks import encode_mask
from sapnet_pipe.data.errors import UserError
from sapnet_pipe.stages.segment.batches import Draw
from sapnet_pipe.stages.segment.detectron2.config import base_config
from sapnet_pipe.stages.segment.detectron2.instances import targets_of_entry
from sapnet_pipe.stages.segment.detectron2.mapper import DrawnFlip, ExactResize, MaskMapper, ResizeShortSide
from sapnet_pipe.stages.segment.detectron2.registration import forget, register_labels
from sapnet_pipe.stages.segment.labels import read_labels
from sapnet_pipe.stages.segment.solov2.losses import mask_losses
from sapnet_pipe.stages.segment.solov2.mask_geometry import quarter_masks
from tests.stages.segment.segment_scenes import tiny_config, write_scenes

HEAD = tiny_config().head


def _rle(mask: np.ndarray) -> dict[str, Any]:
    return {"size": list(mask.shape), "counts": encode_mask(mask.astype(bool)).decode("ascii")}


def _scene(folder: Path) -> tuple[dict[str, Any], list[np.ndarray]]:
    """A photograph of 60 x 80 with one object, its mask and two alternates, all of odd shape."""
    rng = np.random.default_rng(3)
    Image.fromarray(rng.integers(0, 255, (60, 80, 3), np.uint8)).save(folder / "a.png")
    mask = np.zeros((3, 60, 80), np.uint8)
    mask[0, 12:40, 20:52] = 1
    mask[0, 12:20, 20:30] = 0
    mask[1, 8:44, 16:60] = 1
    mask[2, 20:36, 24:40] = 1
    annotation = {
        "id": 7, "category_id": 1, "iscrowd": 0, "segmentation": _rle(mask[0]), "bbox": [20, 12, 52, 40],
        "alternates": [_rle(mask[1]), _rle(mask[2])],
    }  # fmt: skip
    entry = {"file_name": str(folder / "a.png"), "height": 60, "width": 80, "annotations": [annotation]}
    return entry, list(mask)


def _flip(mask: np.ndarray) -> np.ndarray:
    return mask[:, ::-1]


MOVES = {
    "resize": ([ResizeShortSide([120], 999)], lambda mask: mask.repeat(2, 0).repeat(2, 1)),
    "flip": ([T.RandomFlip(1.0)], _flip),
    "crop": ([T.CropTransform(10, 6, 44, 50)], lambda mask: mask[6:56, 10:54]),
    "crop, resize, flip": (
        [T.CropTransform(8, 4, 64, 48), ResizeShortSide([96], 999), DrawnFlip(horizontal=True)],
        lambda mask: _flip(mask[4:52, 8:72].repeat(2, 0).repeat(2, 1)),
    ),
}


@pytest.mark.parametrize("name", MOVES)
def test_the_loss_is_eq_11_on_masks_and_alternates_moved_together(tmp_path, name):
    augmentations, move = MOVES[name]
    entry, masks = _scene(tmp_path)
    entry["draw"] = Draw(120 if name == "resize" else 96, True)
    mapped = MaskMapper(augmentations, image_format="RGB", is_train=True)(entry)
    moved = [np.ascontiguousarray(move(mask)) for mask in masks]
    found = mapped["instances"]
    assert np.array_equal(found.gt_masks.tensor[0].numpy(), moved[0])
    assert np.array_equal(found.gt_alternates.groups[0].numpy(), np.stack(moved[1:]))
    assert mapped["image"].shape[1:] == moved[0].shape
    feat = tuple(-(-side // 32) * 8 for side in moved[0].shape)
    targets, untrained = targets_of_entry(mapped, feat, HEAD, 2)
    assert not untrained
    torch.manual_seed(0)
    kernels, features = torch.randn(16, len(targets.category)), torch.randn(16, *feat)
    losses = mask_losses(kernels, features, targets, 0.25)
    quarters = [_quarter(mask, feat) for mask in moved]
    for loss, cell in zip(losses, targets.cell, strict=True):
        score = torch.einsum("d,dhw->hw", kernels[:, cell], features).sigmoid()
        main, *others = [_dice(score, quarter) for quarter in quarters]
        torch.testing.assert_close(loss, main + 0.25 * sum(others) / 2, rtol=1e-4, atol=1e-5)


def _quarter(mask: np.ndarray, feat: tuple[int, int]) -> torch.Tensor:
    return torch.from_numpy(quarter_masks(mask[None], feat)[0]).float()


def _dice(score: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return 1 - 2 * (score * mask).sum() / ((score**2).sum() + 0.001 + (mask**2).sum() + 0.001)


def test_every_dialect_of_masks_gives_the_same_instance(tmp_path):
    entry, _ = _scene(tmp_path)
    polygon = [[20.0, 12, 52, 12, 52, 40, 20, 40]]
    square = np.zeros((60, 80), np.uint8)
    square[12:40, 20:52] = 1
    runs = np.diff(np.flatnonzero(np.diff(np.r_[0, square.ravel("F"), 0])), prepend=0).tolist()
    runs.append(60 * 80 - sum(runs))
    compressed = _rle(square)
    dialects = [
        polygon, {"size": [60, 80], "counts": runs}, compressed, {**compressed, "counts": compressed["counts"].encode()}
    ]  # fmt: skip
    mapper = MaskMapper([T.CropTransform(30, 0, 40, 60)], image_format="RGB", is_train=True)
    for dialect in dialects:
        annotation = {**entry["annotations"][0], "segmentation": dialect, "alternates": None}
        found = mapper({**entry, "annotations": [annotation]})["instances"]
        assert np.array_equal(found.gt_masks.tensor[0].numpy(), square[:, 30:70])
        assert not found.has("gt_alternates")


def test_crowds_are_left_out_and_a_vanished_mask_stays_to_be_counted(tmp_path):
    entry, _ = _scene(tmp_path)
    pixel = np.zeros((60, 80), np.uint8)
    pixel[59, 79] = 1
    first = entry["annotations"][0]
    entry["annotations"] += [{**first, "iscrowd": 1}, {**first, "id": 9, "segmentation": _rle(pixel)}]
    mapped = MaskMapper([T.CropTransform(0, 0, 64, 56)], image_format="RGB", is_train=True)(entry)
    assert mapped["instances"].gt_ids.tolist() == [7, 9]
    _, untrained = targets_of_entry(mapped, (16, 16), HEAD, 2, lost="outside the crop")
    assert untrained == [(9, "outside the crop")]


def test_an_image_without_annotations_maps_and_has_targets(tmp_path):
    entry, _ = _scene(tmp_path)
    mapper = MaskMapper([DrawnFlip(prob=0.5)], image_format="BGR", is_train=True)
    mapped = mapper({**entry, "annotations": []})
    targets, untrained = targets_of_entry(mapped, (16, 24), HEAD, 2)
    assert len(mapped["instances"]) == len(targets.cell) == len(untrained) == 0
    assert (targets.category == 2).all()


def test_alternates_are_indexed_as_every_field_of_instances(tmp_path):
    entry, _ = _scene(tmp_path)
    entry["annotations"].append({**entry["annotations"][0], "alternates": []})
    found = MaskMapper([T.NoOpTransform()], image_format="RGB", is_train=True)(entry)["instances"]
    assert [len(group) for group in found.gt_alternates.groups] == [2, 0]
    assert [len(group) for group in found[torch.tensor([False, True])].gt_alternates.groups] == [0]
    assert [len(group) for group in found[torch.tensor([1, 0])].gt_alternates.groups] == [0, 2]
    assert [len(group) for group in found[0].gt_alternates.groups] == [2]


def test_masks_resize_back_and_forth():
    resize = ExactResize(60, 80, 120, 160)
    mask = np.random.default_rng(0).integers(0, 2, (60, 80)).astype(np.uint8)
    assert np.array_equal(resize.inverse().apply_segmentation(resize.apply_segmentation(mask)), mask)
    assert resize.apply_coords(np.array([[40.0, 30.0]])).tolist() == [[80, 60]]


@pytest.fixture
def registered(tmp_path):
    labels = write_scenes(tmp_path / "s", [3, 0, 2], alternates=True, crowd=True)
    content = json.loads(labels.read_text())
    for annotation in content["annotations"]:
        annotation["bbox"] = [0, 0, 1, 1]
    labels.write_text(json.dumps(content))
    register_coco_instances("theirs", {}, str(labels), str(tmp_path / "s/images"))
    register_labels("ours", read_labels(labels, tmp_path / "s/images", with_alternates=True))
    yield "ours", "theirs"
    for name in ("ours", "theirs"):
        forget(name)


def test_our_registration_reads_what_register_coco_instances_reads_and_the_alternates(registered):
    cfg = base_config()
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.RANDOM_FLIP = (96,), "none"
    mapper, plain = MaskMapper.from_cfg(cfg, True), DatasetMapper(cfg, True)
    ours, theirs = (DatasetCatalog.get(name) for name in registered)
    assert [entry["image_id"] for entry in ours] == [entry["image_id"] for entry in theirs]
    alternates = 0
    for mine, yours in zip(ours, theirs, strict=True):
        one, two, three = mapper(mine)["instances"], mapper(yours)["instances"], plain(yours)["instances"]
        alternates += sum(len(group) for group in one.gt_alternates.groups) if one.has("gt_alternates") else 0
        assert one.gt_classes.tolist() == two.gt_classes.tolist() == three.gt_classes.tolist()
        assert torch.equal(one.gt_masks.tensor, two.gt_masks.tensor)
        if len(three):
            assert torch.equal(one.gt_masks.tensor, three.gt_masks.tensor.bool())
    assert alternates == 2 * sum(len(entry["annotations"]) for entry in ours) > 0
    for key in ("thing_classes", "thing_dataset_id_to_contiguous_id", "json_file"):
        assert MetadataCatalog.get("ours").get(key) == MetadataCatalog.get("theirs").get(key)


def test_a_photograph_of_another_size_is_refused_by_name(tmp_path):
    entry, _ = _scene(tmp_path)
    with pytest.raises(UserError, match=r"a\.png"):
        MaskMapper([], image_format="RGB", is_train=False)({**entry, "height": 61})
