import json
from pathlib import Path

import pytest
from PIL import Image

from sapnet_pipe.data.checks.mending import mend_points
from sapnet_pipe.data.errors import UserError
from sapnet_pipe.data.points.reader import read_points, write_points


def saved(folder: Path, points: list, *, image: dict | None = None, **more) -> Path:
    """A points file of one photograph of 40 x 30, or of `image`; `points` are annotations without their references."""
    entry = {"id": 1, "file_name": "a.png", "width": 40, "height": 30} | (image or {})
    annotations = [{"id": n, "image_id": 1, "category_id": 1} | point for n, point in enumerate(points, 1)]
    content = {"images": [entry], "categories": [{"id": 1, "name": "cup"}], "annotations": annotations} | more
    (folder / "points.json").write_text(json.dumps(content))
    return folder / "points.json"


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    Image.new("RGB", (40, 30)).save(tmp_path / "images" / "a.png")
    return tmp_path / "images"


def test_doubled_and_odd_ids_are_replaced_and_all_others_kept(tmp_path):
    ids = [7, 7, "b", None, 2**70, 2.0]
    path = saved(tmp_path, [{"id": number, "point": [n, n]} for n, number in enumerate(ids)])
    points = mend_points(path, None)
    assert sorted(points.point_id.tolist()) == [1, 2, 3, 4, 5, 7]
    by_id = dict(zip(points.point_id.tolist(), points.xy.tolist(), strict=True))
    assert (by_id[7], by_id[2]) == ([0, 0], [5, 5])
    assert any("1 annotations have the id of another" in note and "new ids" in note for note in points.notes)
    assert any("3 annotations have no whole number as id" in note for note in points.notes)


def test_clicks_that_nothing_can_be_made_of_are_left_out_and_counted(tmp_path):
    odd = [{"point": [41, 3]}, {"point": "1,2"}, {"point": [1, 2], "image_id": 9}, {"point": [3, 4], "category_id": 8}]
    path = saved(tmp_path, [{"point": [20, 10]}, {"point": [39.5, 29]}, *odd, {"point": [20, 10]}])
    points = mend_points(path, None)
    assert points.xy.tolist() == [[20, 10], [39.5, 29]]
    for words in ("outside", "cannot be understood", "images that are not", "categories that are not", "another point"):
        assert sum(f": 1 {kind}" in note for note in points.notes for kind in ("points", "annotations")
                   if words in note) == 1  # fmt: skip
    write_points(tmp_path / "fixed.json", points)
    assert read_points(tmp_path / "fixed.json").notes == ()


@pytest.mark.parametrize(
    ("written", "words"),
    [
        pytest.param(lambda x, y: [x / 40, y / 30], "fractions", id="fractions"),
        pytest.param(lambda x, y: [y, x], "[y, x]", id="exchanged"),
    ],
)
def test_clicks_in_another_unit_or_order_become_pixels(tmp_path, written, words):
    meant = [(36.0, 3.0), (35.0, 6.0), (38.0, 24.0), (39.0, 12.0)]
    points = mend_points(saved(tmp_path, [{"point": written(x, y)} for x, y in meant]), None)
    assert [tuple(round(value, 3) for value in point) for point in points.xy.tolist()] == meant
    assert f"4 points look like {words}" in points.notes[0]


def test_percent_become_pixels_in_large_photographs(tmp_path):
    image = {"width": 4000, "height": 3000}
    points = mend_points(saved(tmp_path, [{"point": [50, 10]}, {"point": [99, 20]}], image=image), None)
    assert points.xy.tolist() == [[2000, 300], [3960, 600]]
    assert "2 points look like percent" in points.notes[0]


def test_photographs_tell_sizes_and_spelling(tmp_path, photographs):
    path = saved(tmp_path, [{"point": [35, 3]}], image={"file_name": "images\\A.PNG", "width": 30, "height": 40})
    points = mend_points(path, photographs)
    assert points.images[1].file_name == "a.png"
    assert (points.images[1].width, points.images[1].height, points.xy.tolist()) == (40, 30, [[35, 3]])
    assert [note.split(": ", 1)[1][:14] for note in points.notes] == ["1 photographs ", "1 images have "]
    path = saved(tmp_path, [{"point": [35, 3]}], image={"width": None, "height": None})
    assert mend_points(path, photographs).images[1].width == 40


def test_what_cannot_be_mended_is_an_error(tmp_path):
    with pytest.raises(UserError, match=r"images\[0\]\.width"):
        mend_points(saved(tmp_path, [{"point": [1, 2]}], image={"width": -1}), None)
    with pytest.raises(UserError, match="0, are left"):
        mend_points(saved(tmp_path, [{"point": [400, 2]}, {"point": [4, 200]}]), None)
    boxes = [{"true_bbox": [1, 1, 5, 5], "bbox": [5 * n + 10, 8, 5 * n + 14, 12]} for n in range(5)]
    with pytest.raises(UserError, match="look like"):
        mend_points(saved(tmp_path, boxes), None)
