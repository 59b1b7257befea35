import json

import numpy as np
import pytest

from sapnet_pipe.data.bag_store.store import BagStore
from sapnet_pipe.data.coco.document import ImageRecord
from sapnet_pipe.data.coco.instances import InstanceAnnotation, InstanceDataset
from sapnet_pipe.data.coco.masks import decode_masks, encode_masks
from sapnet_pipe.data.errors import UserError
from sapnet_pipe.stages.bags.inspect import inspect
from sapnet_pipe.stages.bags.run import run


@pytest.fixture
def store(tmp_path, points, images_dir, config, brightness_sam):
    run(points, images_dir, tmp_path / "bags", config, quiet=True)
    return BagStore.open(tmp_path / "bags")


def _truth(points, masks_of, images=None):
    """Instances whose ids are the point ids; `masks_of` gives each mask's counts."""
    annotations = []
    columns = points.image_id.tolist(), points.point_id.tolist(), points.category_id.tolist()
    for image_id, point_id, category_id in zip(*columns, strict=True):
        image = points.images[image_id]
        segmentation = {"size": [image.height, image.width], "counts": masks_of(image_id, point_id)}
        annotations.append(InstanceAnnotation(point_id, image_id, category_id, segmentation, None, None, False, {}))
    return InstanceDataset(points.source, images or points.images, points.categories, tuple(annotations))


def test_a_store_is_described_without_truth(store, points):
    table = store.read_table()
    report = inspect(store.folder, quiet=True)
    assert (report.images, report.points, report.masks) == (6, 12, len(table.masks))
    assert sum(report.bag_sizes.values()) == 12
    assert sum(size * count for size, count in report.bag_sizes.items()) == sum(report.prompts.values()) == report.masks
    assert report.prompts["point"] == (table.masks.source < 4).sum()
    assert report.score["0"] == table.masks.score.min()
    assert report.area["1"] == table.masks.area.max()
    assert sum(report.area_share.values()) == pytest.approx(1)
    assert report.categories == {"egg": 6, "stone": 6}
    assert (report.quality, report.points_with_truth) == (None, 0)
    assert (report.shards, report.shards_total, report.precision, report.features) == (3, 3, "float32", False)
    assert report.bytes_per_mask == report.bytes / report.masks
    assert json.loads(json.dumps(report.to_dict()))["recipe"] == "refined"


def test_truth_equal_to_a_token_gives_that_token_and_the_oracle_an_iou_of_one(store, points):
    table = store.read_table()
    places = {int(point): int(np.flatnonzero(table.masks.source[a:b] == 2)[0])
              for point, a, b in zip(table.point_id, table.offsets[:-1], table.offsets[1:], strict=True)}  # fmt: skip
    truth = _truth(points, lambda image_id, point_id: store.read_masks(image_id)[point_id][places[point_id]])
    report = inspect(store.folder, truth, quiet=True)
    assert report.points_with_truth == 12
    assert report.quality is not None
    assert report.quality["token-2"].miou == report.quality["oracle"].miou == report.quality["oracle"].share_75 == 1
    assert report.quality["largest"].miou < 1
    for quality in report.quality.values():
        assert 0 <= quality.share_75 <= quality.share_50 <= 1


def test_quality_agrees_with_a_loop_over_decoded_masks(store, points):
    table = store.read_table()
    rng = np.random.default_rng(0)
    shapes = {int(key): (points.images[int(key)].height, points.images[int(key)].width) for key in points.image_id}
    true_masks = {int(point): rng.random(shapes[int(image)]) < 0.4
                  for image, point in zip(points.image_id, points.point_id, strict=True)}  # fmt: skip
    truth = _truth(points, lambda _, point_id: encode_masks(true_masks[point_id][None])[0])
    best, top1 = [], []
    for row, (image_id, point_id) in enumerate(zip(table.image_id.tolist(), table.point_id.tolist(), strict=True)):
        masks = decode_masks(store.read_masks(image_id)[point_id], *shapes[image_id])
        true_mask = true_masks[point_id]
        iou = (masks & true_mask).sum(axis=(1, 2)) / (masks | true_mask).sum(axis=(1, 2))
        own = slice(table.offsets[row], table.offsets[row + 1])
        score = np.where(table.masks.source[own] < 4, table.masks.score[own], -1)
        best.append(iou.max())
        top1.append(iou[score.argmax()])
    quality = inspect(store.folder, truth, quiet=True).quality
    assert quality is not None
    assert quality["oracle"].miou == pytest.approx(np.mean(best))
    assert quality["sam-top1"].miou == pytest.approx(np.mean(top1))


def test_points_without_truth_are_left_out_of_the_quality(store, points):
    truth = _truth(points, lambda image_id, point_id: store.read_masks(image_id)[point_id][0])
    truth = InstanceDataset(truth.source, truth.images, truth.categories, truth.annotations[:5])
    report = inspect(store.folder, truth, quiet=True)
    assert report.points_with_truth == 5
    assert report.quality is not None
    assert report.quality["oracle"].miou == 1


def test_truth_of_other_objects_is_refused(store, points):
    truth = InstanceDataset(points.source, points.images, points.categories, ())
    with pytest.raises(UserError, match="none of which holds any of 12 clicks"):
        inspect(store.folder, truth, quiet=True)


def test_truth_of_images_of_another_size_is_refused(store, points):
    images = {key: ImageRecord(key, image.file_name, 5, 5) for key, image in points.images.items()}
    truth = InstanceDataset(points.source, images, points.categories, ())
    with pytest.raises(UserError, match=r"5 x 5, but .* is 64 wide and 48 high"):
        inspect(store.folder, truth, quiet=True)
