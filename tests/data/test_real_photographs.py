"""The data floor on 38 photographs of COCO 2017."""

import contextlib
import copy
import io
import json

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from sapnet_pipe.data.boxes import xyxy_to_xywh
from sapnet_pipe.data.coco.instances import counts_of, read_instances
from sapnet_pipe.data.coco.masks import decode_mask, encode_mask, rle_box
from sapnet_pipe.data.evaluation.coco_ap import coco_ap
from sapnet_pipe.data.evaluation.mask_quality import mask_quality
from sapnet_pipe.data.evaluation.objects import match_labels
from sapnet_pipe.data.images import image_size, read_image
from sapnet_pipe.data.points.reader import read_points, write_points
from sapnet_pipe.data.points.sampling import STRATEGIES, sample_points

SPLITS = ["train", "val"]


def annotations(tiny_coco, split):
    return tiny_coco / "annotations" / f"instances_{split}2017.json"


def counts_by_id(dataset):
    images = dataset.images
    return {
        annotation.annotation_id: counts_of(annotation, images[annotation.image_id], file="truth")
        for annotation in dataset.annotations
    }


@pytest.mark.parametrize("split", SPLITS)
def test_masks_are_those_of_pycocotools(tiny_coco, split):
    dataset = read_instances(annotations(tiny_coco, split))
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(annotations(tiny_coco, split)))
    counts = counts_by_id(dataset)
    for annotation in dataset.annotations:
        image = dataset.images[annotation.image_id]
        expected = coco.annToRLE(coco.anns[annotation.annotation_id])
        assert counts[annotation.annotation_id] == expected["counts"]
        mask = decode_mask(counts[annotation.annotation_id], image.height, image.width)
        assert encode_mask(mask) == encode_mask(coco.annToMask(coco.anns[annotation.annotation_id]).astype(bool))


@pytest.mark.parametrize("split", SPLITS)
def test_photographs_have_the_annotated_size(tiny_coco, split):
    for image in read_instances(annotations(tiny_coco, split)).images.values():
        path = tiny_coco / "images" / f"{split}2017" / image.file_name
        assert image_size(path) == (image.height, image.width)
        assert read_image(path, image.height, image.width).shape == (image.height, image.width, 3)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize(("split", "objects", "crowds"), [("train", 284, 4), ("val", 135, 1)])
def test_every_object_but_the_crowds_gets_a_point_in_its_mask(tiny_coco, tmp_path, split, objects, crowds, strategy):
    dataset = read_instances(annotations(tiny_coco, split))
    points = sample_points(dataset, strategy, 0)
    assert (len(points), points.dropped["crowd"]) == (objects, crowds)
    counts = counts_by_id(dataset)
    for point_id, image_id, (x, y) in zip(points.point_id, points.image_id, points.xy, strict=True):
        image = dataset.images[int(image_id)]
        assert decode_mask(counts[int(point_id)], image.height, image.width)[int(y), int(x)]
    write_points(tmp_path / "points.json", points)
    np.testing.assert_array_equal(read_points(tmp_path / "points.json").xy, points.xy)


def shifted_results(dataset):
    """Every object's mask moved a few pixels to the side, with a random score."""
    rng = np.random.default_rng(0)
    counts = counts_by_id(dataset)
    results = []
    for annotation in dataset.annotations:
        image = dataset.images[annotation.image_id]
        mask = decode_mask(counts[annotation.annotation_id], image.height, image.width)
        moved = encode_mask(np.roll(mask, rng.integers(-8, 8), axis=1))
        box = xyxy_to_xywh(rle_box(moved, image.height, image.width)).tolist()
        segmentation = {"size": [image.height, image.width], "counts": moved.decode()}
        entry = {"image_id": annotation.image_id, "category_id": annotation.category_id, "score": float(rng.random())}
        results.append(entry | {"segmentation": segmentation, "bbox": box})
    return results


@pytest.mark.parametrize("iou_type", ["segm", "bbox"])
def test_ap_is_that_of_pycocotools_own_loader(tiny_coco, iou_type):
    path = annotations(tiny_coco, "train")
    results = shifted_results(read_instances(path))
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(path))
        kept = [{k: v for k, v in entry.items() if k != "bbox" or iou_type == "bbox"} for entry in results]
        evaluation = COCOeval(coco, coco.loadRes(copy.deepcopy(kept)), iou_type)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    assert list(coco_ap(path, results, iou_type).values()) == evaluation.stats.tolist()


def test_the_truth_measured_against_itself_is_perfect(tiny_coco):
    dataset = read_instances(annotations(tiny_coco, "train"))
    masks, match = match_labels(dataset, dataset)
    quality = mask_quality(masks, match)
    assert (quality.miou, quality.share_75, quality.count, quality.missing, quality.extra) == (1, 1, 284, 0, 0)
    assert quality.by_group["in_group"].count + quality.by_group["alone"].count == 284
    json.dumps(quality.to_dict(), allow_nan=False)
