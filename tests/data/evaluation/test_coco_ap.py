import json

import pytest

from sapnet_pipe.data.coco.instances import counts_of, read_instances
from sapnet_pipe.data.errors import UserError
from sapnet_pipe.data.evaluation.coco_ap import NAMES, ap_by_category, coco_ap


@pytest.fixture
def truth(instances, save):
    return read_instances(save(instances))


def perfect(truth):
    return [
        {
            "image_id": annotation.image_id,
            "category_id": annotation.category_id,
            "score": 0.5,
            "segmentation": {"size": [10, 20], "counts": counts_of(annotation, truth.images[7], file="t").decode()},
            "bbox": [2, 2, 4, 4] if annotation.category_id == 4 else [10, 0, 5, 10],
        }
        for annotation in truth.annotations
        if not annotation.iscrowd
    ]


@pytest.mark.parametrize("iou_type", ["segm", "bbox"])
def test_perfect_predictions_reach_one_and_nothing_is_printed(truth, iou_type, capsys):
    figures = coco_ap(truth, perfect(truth), iou_type)
    assert tuple(figures) == NAMES
    assert [figures[name] for name in ("AP", "AP50", "APs", "AR100")] == pytest.approx([1, 1, 1, 1])
    assert figures["APl"] == -1  # the truth has no large object
    assert capsys.readouterr().out == ""


def test_the_mean_over_categories_is_cocos_ap(truth):
    found = perfect(truth)
    found[0]["score"] = 0.1
    found.append({**found[-1], "score": 0.2, "segmentation": found[0]["segmentation"]})  # of another class: false
    by_category = ap_by_category(truth, found)
    figures = [entry["AP"] for entry in by_category.values() if entry["AP"] >= 0]
    assert sum(figures) / len(figures) == pytest.approx(coco_ap(truth, found)["AP"])
    assert min(figures) < 1
    assert sum(entry["objects"] for entry in by_category.values()) == len(found) - 1
    assert sum(entry["predictions"] for entry in by_category.values()) == len(found)
    assert all(entry["AP"] <= 0 for entry in ap_by_category(truth, []).values())


@pytest.mark.parametrize("iou_type", ["segm", "bbox"])
def test_no_predictions_give_zero(truth, iou_type):
    assert coco_ap(truth, [], iou_type)["AP"] == 0


def test_files_are_read_like_what_they_hold(truth, tmp_path):
    path = tmp_path / "predictions.json"
    path.write_text(json.dumps(perfect(truth)))
    assert coco_ap(truth.source, path) == coco_ap(truth, perfect(truth))


def test_a_wrong_class_counts_as_a_miss(truth):
    results = perfect(truth)
    results[0] |= {"category_id": 4, "score": 0.1}
    assert coco_ap(truth, results)["AP"] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("key", "value", "iou_type", "field"),
    [
        ("image_id", 99, "segm", "results[1].image_id = 99"),
        ("image_id", "7", "segm", "results[1].image_id = 7"),
        ("category_id", 1, "segm", "results[1].category_id = 1"),
        ("score", float("nan"), "segm", "results[1].score = nan"),
        ("score", None, "segm", "results[1].score = None"),
        ("segmentation", None, "segm", "results[1].segmentation = None"),
        ("segmentation", {"size": [20, 10], "counts": "x"}, "segm", "results[1].segmentation.size = [20, 10]"),
        ("segmentation", {"size": [10, 20], "counts": "x"}, "segm", "results[1].segmentation.counts = x"),
        ("bbox", None, "bbox", "results[1].bbox = None"),
        ("bbox", [1, 2, -3, 4], "bbox", "results[1].bbox = [1, 2, -3, 4]"),
    ],
)
def test_a_malformed_prediction_is_named(truth, key, value, iou_type, field):
    results = perfect(truth)
    results[1][key] = value
    with pytest.raises(UserError) as raised:
        coco_ap(truth, results, iou_type)
    assert str(raised.value).startswith(f"results: {field}")


@pytest.mark.parametrize("content", ["{}", "[3]", "", "null"])
def test_a_file_that_is_no_list_of_predictions_is_refused(truth, tmp_path, content):
    path = tmp_path / "predictions.json"
    path.write_text(content)
    with pytest.raises(UserError, match=r"predictions\.json"):
        coco_ap(truth, path)
