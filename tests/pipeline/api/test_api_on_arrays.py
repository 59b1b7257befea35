"""One image in memory gives what the commands give for it in a folder; faults are one line."""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sapnet_pipe
from sapnet_pipe import Sam, UserError


@pytest.fixture(scope="module")
def sam() -> Sam:
    return sapnet_pipe.load_sam("tiny", device="cpu")


def test_the_bags_of_an_array_are_those_of_the_store(job: Path, sam: Sam) -> None:
    stored = [bag for bag in sapnet_pipe.open_bags("bags").iter_bags() if bag.file_name == "2.png"]
    made = sam.make_bags(np.asarray(Image.open("images/2.png")), [bag.point_xy for bag in stored])
    assert [bag.point_id for bag in made] == list(range(len(stored)))
    for mine, theirs in zip(made, stored, strict=True):
        assert (mine.height, mine.width, mine.point_xy) == (theirs.height, theirs.width, theirs.point_xy)
        assert mine.masks.rle == theirs.masks.rle
        for name in ("box_xyxy", "area", "score", "stability", "source"):
            np.testing.assert_array_equal(getattr(mine.masks, name), getattr(theirs.masks, name))


def test_one_point_may_be_given_alone(sam: Sam) -> None:
    image = np.zeros((40, 60, 3), np.uint8)
    (bag,) = sam.make_bags(image, (59.5, 3))
    assert bag.point_xy == (59.5, 3.0)
    masks = sapnet_pipe.decode_masks(bag.masks.rle, bag.height, bag.width)
    assert masks.shape == (len(bag.masks), 40, 60)
    assert sam.make_bags(image, np.zeros((0, 2))) == []


@pytest.mark.parametrize(
    ("image", "points", "message"),
    [
        pytest.param(np.zeros((8, 8), np.uint8), [1, 1], r"image: array = uint8 of shape \(8, 8\), not", id="grey"),
        pytest.param(np.zeros((8, 8, 3)), [1, 1], r"image: array = float64 of shape \(8, 8, 3\), not", id="floats"),
        pytest.param(np.zeros((8, 9, 3), np.uint8), [[1, 1], [1, 8]], r"points\[1\] = \[1.0, 8.0\]", id="low"),
        pytest.param(np.zeros((8, 8, 3), np.uint8), [np.nan, 1], r"points\[0\] = \[nan, 1.0\]", id="NaN"),
        pytest.param(np.zeros((8, 8, 3), np.uint8), [1, 2, 3], r"shape = \(1, 3\), not \(N, 2\)", id="three numbers"),
        pytest.param(np.zeros((8, 8, 3), np.uint8), "here", "not numbers", id="text"),
    ],
)  # fmt: skip
def test_arrays_that_cannot_be_used_are_named(sam: Sam, image: np.ndarray, points: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        sam.make_bags(image, points)  # type: ignore[arg-type]


def test_a_prediction_is_that_of_the_command(job: Path) -> None:
    model = sapnet_pipe.load_model("seg", device="cpu")
    assert model.categories == {10: "red", 20: "blue"}
    expected = [entry for entry in json.loads(Path("pred.json").read_text()) if entry["image_id"] == 3]
    found = model.predict(np.asarray(Image.open("images/3.png")))
    assert len(found) == len(expected) > 0
    assert found.scores.tolist() == [entry["score"] for entry in expected]
    assert found.category_ids.tolist() == [entry["category_id"] for entry in expected]
    assert found.names == tuple(model.categories[entry["category_id"]] for entry in expected)
    codes = [entry["segmentation"]["counts"].encode() for entry in expected]
    np.testing.assert_array_equal(found.masks, sapnet_pipe.decode_masks(codes, 64, 64))
    left, top, right, bottom = found.boxes_xyxy.T
    assert [[x, y, w, h] for x, y, w, h in zip(left, top, right - left, bottom - top, strict=True)] == [
        entry["bbox"] for entry in expected
    ]


def test_nothing_found_is_empty_arrays(job: Path) -> None:
    found = sapnet_pipe.load_model("seg", device="cpu", score_threshold=1.0).predict(np.zeros((30, 50, 3), np.uint8))
    assert (found.masks.shape, found.boxes_xyxy.shape) == ((0, 30, 50), (0, 4))
    assert (len(found), found.names) == (0, ())


def test_settings_are_checked_by_the_models_of_the_command_line(job: Path) -> None:
    with pytest.raises(UserError, match=r"^settings: sam = tyni, .*'tiny'"):
        sapnet_pipe.load_sam("tyni")
    with pytest.raises(UserError, match=r"^settings: train\.max_iteration = 3, no such setting\. Known here: .*max_it"):
        sapnet_pipe.select("bags", "images", "new", preset="demo", train={"max_iteration": 3})
    with pytest.raises(UserError, match=r"--preset: name = demmo"):
        sapnet_pipe.select("bags", "images", "new", preset="demmo")
    with pytest.raises(UserError, match=r"no such folder|there is no|which does not exist|a folder without"):
        sapnet_pipe.load_model("images")
    with pytest.raises(UserError, match="Give exactly one"):
        sapnet_pipe.evaluate("truth.json")
    assert not Path("new").exists()


def test_a_command_gives_its_json_and_warns_of_what_it_notes(job: Path) -> None:
    with pytest.warns(UserWarning, match="complete before"):
        summary = sapnet_pipe.generate_bags("points.json", "images", "bags", sam="tiny", device="cpu", shard_images=2, quiet=True)  # fmt: skip  # noqa: E501
    assert (summary["points"], summary["already_complete"]) == (8, True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = sapnet_pipe.select("bags", "images", "largest", method="largest", truth="truth.json", quiet=True)
    assert result["labels"] == 8
    assert result["quality"]["chosen"]["miou"] == sapnet_pipe.evaluate("truth.json", labels="largest/pseudo_labels.json")["miou"]  # fmt: skip  # noqa: E501
    assert len(sapnet_pipe.read_points("points.json")) == 8
