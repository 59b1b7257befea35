import json

import numpy as np
import pytest

from sapnet_pipe.data.coco.instances import Category
from sapnet_pipe.data.errors import UserError
from sapnet_pipe.data.points.point_set import PointSet
from sapnet_pipe.data.points.reader import read_points, write_points


def test_rows_are_sorted_by_image_and_point(points_document, save):
    points_document["annotations"][1] |= {"image_id": 3, "point": [0, 7.5]}
    points_document["annotations"][2]["iscrowd"] = 0
    points = read_points(save(points_document))
    assert points.image_id.tolist() == [3, 7, 7]
    assert points.point_id.tolist() == [29, 28, 30]
    assert points.category_id.tolist() == [9, 9, 4]
    np.testing.assert_array_equal(points.xy, np.array([[0, 7.5], [4.25, 5], [4.25, 5]], np.float32))
    assert (points.image_id.dtype, points.category_id.dtype, points.xy.dtype) == (np.int64, np.int32, np.float32)
    assert points.categories == (Category(4, "cat"), Category(9, "cup"))


def test_what_is_left_out_is_counted(points_document, save):
    points_document["annotations"][1]["point"] = None
    points = read_points(save(points_document))
    assert points.point_id.tolist() == [30]
    expected = {"crowd": 1, "without_point": 1, "points_moved_inside": 0, "images_without_points": 1}
    assert points.dropped == expected
    assert list(points.images) == [3, 7]


def test_writing_and_reading_gives_the_same_points_and_the_same_bytes(points_document, save, tmp_path):
    points_document["annotations"][0]["point"] = [19.999999999, 0.1]
    points = read_points(save(points_document))
    write_points(tmp_path / "a.json", points)
    again = read_points(tmp_path / "a.json")
    write_points(tmp_path / "b.json", again)
    np.testing.assert_array_equal(again.xy, points.xy)
    assert points.xy[1, 0] < 20
    assert (again.images, again.categories) == (points.images, points.categories)
    first, second = (json.loads((tmp_path / name).read_text()) for name in ("a.json", "b.json"))
    assert first["annotations"] == second["annotations"]
    write_points(tmp_path / "c.json", points)
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "c.json").read_bytes()


@pytest.mark.parametrize(
    ("point", "field", "problem"),
    [
        ([20, 5], "point[0] = 20", "but image 7 is 20 wide"),
        ([1333, 5], "point[0] = 1333", "but image 7 is 20 wide"),
        ([5, 10], "point[1] = 10", "but image 7 is 10 high"),
        ([-0.25, 5], "point[0] = -0.25", "but image 7 is 20 wide"),
        ([float("nan"), 5], "point[0] = nan", "which is not a finite number"),
        ([5, float("-inf")], "point[1] = -inf", "which is not a finite number"),
        ([True, 5], "point[0] = True", "which is not a finite number"),
        (["4", 5], "point[0] = '4'", "which is not a finite number"),
        ([10**400, 5], "point[0] = 1000", "which is not a finite number"),
        ([4, 5, 6], "point = [4, 5, 6]", "which is not [x, y]"),
        ({"x": 4, "y": 5}, "point = ", "which is not [x, y]"),
        (4, "point = 4", "which is not [x, y]"),
    ],
)
def test_an_unusable_point_is_named(points_document, save, point, field, problem):
    points_document["annotations"][1]["point"] = point
    path = save(points_document)
    with pytest.raises(UserError) as raised:
        read_points(path)
    assert str(raised.value).startswith(f"{path}: annotations[1].{field}")
    assert problem in str(raised.value)


def test_a_file_without_points_says_how_to_make_them(instances, save):
    with pytest.raises(
        UserError, match=r"none of which has a point\. Make points from the masks with `sapnet-pipe points`"
    ):
        read_points(save(instances))


def test_a_file_of_crowds_alone_is_refused(points_document, save):
    for entry in points_document["annotations"]:
        entry["iscrowd"] = 1
    with pytest.raises(UserError, match="all of them crowds"):
        read_points(save(points_document))


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"xy": np.array([[4, 5], [20, 5]], np.float32)}, id="outside"),
        pytest.param({"xy": np.array([[4, 5], [np.nan, 5]], np.float32)}, id="nan"),
        pytest.param({"xy": np.zeros((3, 2), np.float32)}, id="length"),
        pytest.param({"image_id": np.array([7, 8])}, id="unknown image"),
        pytest.param({"category_id": np.array([4, 5], np.int32)}, id="unknown category"),
        pytest.param({"point_id": np.array([29, 29])}, id="doubled id"),
        pytest.param({"point_id": np.array([30, 29])}, id="order"),
    ],
)
def test_a_point_set_cannot_be_made_inconsistent(points_document, save, change):
    points = read_points(save(points_document))
    columns = {name: getattr(points, name) for name in PointSet.__dataclass_fields__}
    with pytest.raises(ValueError, match=r"point|column"):
        PointSet(**(columns | change))
