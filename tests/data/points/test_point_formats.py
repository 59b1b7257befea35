import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sapnet_pipe.data.errors import UserError
from sapnet_pipe.data.files import sha256_file
from sapnet_pipe.data.points.reader import read_points


def read_with(document, save, **keys):
    """Points of the document after its first annotation got `keys` and the others went."""
    for entry in document["annotations"]:
        entry.pop("point", None)
    document["annotations"][0] |= keys
    return read_points(save(document))


def test_p2bnet_files_give_the_click_and_never_the_true_box(points_document, save):
    keys = {"point": [4.5, 5.5], "bbox": [0, 0, 2, 2], "true_bbox": "never read"}
    assert read_with(points_document, save, **keys).xy.tolist() == [[4.5, 5.5]]


def test_p2bnet_clicks_half_a_pixel_outside_are_moved_to_the_border_and_counted(points_document, save):
    points = read_with(points_document, save, point=[-0.4, 10.3], true_bbox=[0, 0, 4, 4])
    assert points.xy[0, 0] == 0
    assert points.xy[0, 1] == np.nextafter(np.float32(10), np.float32(0))
    assert points.dropped["points_moved_inside"] == 1


def test_p2bnet_clicks_further_outside_are_an_error(points_document, save):
    with pytest.raises(UserError, match=r"annotations\[0\]\.point\[0\] = -0.6, but image 7 is 20 wide"):
        read_with(points_document, save, point=[-0.6, 5], true_bbox=[0, 0, 4, 4])


def test_coarse_boxes_without_a_click_have_it_in_their_centre(points_document, save):
    assert read_with(points_document, save, bbox=[2, 3, 4, 5], true_bbox=[0, 0, 9, 9]).xy.tolist() == [[4, 5.5]]


def test_pointsup_gives_the_first_point_on_the_object(points_document, save):
    keys = {"point_coords": [[1, 1], [2, 3], [4, 4]], "point_labels": [0, 1, 1]}
    points = read_with(points_document, save, **keys)
    assert (points.xy.tolist(), points.dropped["further_points"]) == ([[2, 3]], 2)


def test_pointsup_without_a_point_on_the_object_counts_as_without_point(points_document, save):
    points_document["annotations"][1] |= {"point_coords": [[1, 1]], "point_labels": [1]}
    points = read_with(points_document, save, point_coords=[[1, 1]], point_labels=[0])
    assert (len(points), points.dropped["without_point"]) == (1, 1)


def test_keypoints_give_the_labelled_one_nearest_their_mean(points_document, save):
    keypoints = [0, 0, 0, 2, 2, 1, 6, 2, 2, 16, 2, 2]  # labelled: x = 2, 6, 16, mean 8
    points = read_with(points_document, save, keypoints=keypoints)
    assert (points.xy.tolist(), points.dropped["further_points"]) == ([[6.5, 2.5]], 2)


def test_a_keypoint_in_the_last_pixel_stays_inside(points_document, save):
    points = read_with(points_document, save, keypoints=[19.8, 9, 2])
    assert points.xy[0].tolist() == [float(np.nextafter(np.float32(20), np.float32(0))), 9.5]


@pytest.mark.parametrize(
    ("keys", "field"),
    [
        ({"point_coords": 4}, "point_coords = 4"),
        ({"point_coords": [4, 5]}, "point_coords[0] = 4"),
        ({"point_coords": [[4, 5]], "point_labels": []}, "point_labels = []"),
        ({"point_coords": [[4, 5]], "point_labels": ["1"]}, "point_labels[0] = 1"),
        ({"point_coords": [[1, 1], [4, 50]], "point_labels": [0, 1]}, "point_coords[1][1] = 50"),
        ({"keypoints": [1, 2]}, "keypoints = [1, 2]"),
        ({"keypoints": [1, 2, None]}, "keypoints[2] = None"),
        ({"keypoints": [1, 2, 0, 30, 2, 1]}, "keypoints[3] = 30"),
        ({"true_bbox": [0, 0, 1, 1], "bbox": [1, 2]}, "bbox = [1, 2]"),
        ({"true_bbox": [0, 0, 1, 1], "bbox": [50, 2, 2, 2]}, "bbox[0] = 51.0"),
    ],
)
def test_a_malformed_click_is_named(points_document, save, keys, field):
    with pytest.raises(UserError) as raised:
        read_with(points_document, save, **keys)
    assert f"given.json: annotations[0].{field}" in str(raised.value)


@pytest.fixture
def photographs(tmp_path):
    folder = tmp_path / "photographs"
    folder.mkdir()
    Image.new("RGB", (20, 10)).save(folder / "b.png")
    Image.new("RGB", (8, 6)).save(folder / "a,1.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (30, 12)).save(folder / "turned.jpg", exif=exif)
    return folder


def csv_file(tmp_path, text, encoding="utf-8"):
    path = tmp_path / "clicks.csv"
    path.write_bytes(text.encode(encoding))
    return path


def test_csv_clicks_get_ids_in_sorted_order(tmp_path, photographs):
    text = 'file_name,x,y,category\nb.png,19.5,9,cup\n\n"a,1.png",0,5.5,cat\nb.png,1,2,cat\nturned.jpg,11,29,cup\n'
    points = read_points(csv_file(tmp_path, text), photographs)
    assert [image.file_name for image in points.images.values()] == ["a,1.png", "b.png", "turned.jpg"]
    assert [(image.height, image.width) for image in points.images.values()] == [(6, 8), (10, 20), (30, 12)]
    assert [(category.category_id, category.name) for category in points.categories] == [(1, "cat"), (2, "cup")]
    assert points.point_id.tolist() == [2, 1, 3, 4]
    assert points.image_id.tolist() == [1, 2, 2, 3]
    assert points.xy.tolist() == [[0, 5.5], [19.5, 9], [1, 2], [11, 29]]


@pytest.mark.parametrize("separator", [";", "\t"])
def test_csv_of_a_spreadsheet_has_other_separators_and_decimal_commas(tmp_path, photographs, separator):
    lines = [["file_name", "x", "y", "category"], ["b.png", "2,5", "1", "cup, large"], ["b.png", "1.25", "3", "plate"]]
    path = csv_file(tmp_path, "\ufeff" + "\r\n".join(separator.join(line) for line in lines) + "\r\n")
    points = read_points(path, photographs)
    assert points.xy.tolist() == [[2.5, 1], [1.25, 3]]
    assert [category.name for category in points.categories] == ["cup, large", "plate"]


def test_csv_ids_are_those_of_their_column(tmp_path, photographs):
    path = csv_file(tmp_path, "id,file_name,x,y,category\n70,b.png,1,2,cup\n-3.0,b.png,3,4,cup\n")
    points = read_points(path, photographs)
    assert (points.point_id.tolist(), points.xy.tolist()) == ([-3, 70], [[3, 4], [1, 2]])


def test_csv_columns_may_stand_in_any_order_beside_others(tmp_path, photographs):
    path = csv_file(tmp_path, "\ufeffcategory,who,Y,X,file_name\r\ncup,me,1,2,b.png\r\n")
    assert read_points(path, photographs).xy.tolist() == [[2, 1]]


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("", "line 1 = "),
        ("file_name|x|y|category\nb.png|1|2|cup\n", "line 1 = "),
        ("file_name,x,x,y,category\n", "line 1 = "),
        ("b.png,1,2,cup\n", "line 1 = b.png"),
        ("file_name,x,y,category\n", "lines = 0"),
        ("file_name,x,y,category\nb.png,1,2\n", "line 2 = b.png,1,2"),
        ("file_name,x,y,category\nb.png,one,2,cup\n", "line 2, x = one"),
        ("file_name,x,y,category\nb.png,1,nan,cup\n", "line 2, y = nan"),
        ("file_name,x,y,category\nb.png,1,,cup\n", "line 2, y = "),
        ("file_name,x,y,category\nb.png,1,2, \n", "line 2, category = "),
        ("file_name,x,y,category\nb.png,20,2,cup\n", "line 2, x = 20.0"),
        ("file_name,x,y,category,id\nb.png,2,2,cup,seven\n", "line 2, id = seven"),
        ("file_name,x,y,category,id\nb.png,2,2,cup,1.5\n", "line 2, id = 1.5"),
        ("file_name,x,y,category,id\nb.png,2,2,cup,\n", "line 2, id = "),
        ("file_name,x,y,category,id\nb.png,2,2,cup,7\nb.png,3,2,cup,7.0\n", "line 3, id = 7"),
        ("file_name,x,y,category,id,ID\nb.png,2,2,cup,7,8\n", "line 1 = "),
        ("file_name,x,y,category\n\nb.png,2,-1,cup\n", "line 3, y = -1.0"),
        ("file_name,x,y,category\n../c.png,1,2,cup\n", "line 2, file_name = ../c.png"),
        ("file_name,x,y,category\n/c.png,1,2,cup\n", "line 2, file_name = /c.png"),
        ("file_name,x,y,category\nnone.png,1,2,cup\n", "line 2, file_name = "),
        ("file_name,x,y,category\n" + "b" * 200_000 + ",1,2,cup\n", "line 2 = field larger"),
        ('file_name,x,y,category\nb.png,1,2,"cup\nb.png,3,4,cup\nb.png,5,6,cup"\n', "line 2 = b.png,1,2,cup"),
        ('file_name,x,y,category\nb.png,1,2,cup\nb.png,1,2,"cup\nb.png,3,4,cup\n', "line 3 = unexpected end"),
    ],
)
def test_a_wrong_csv_line_is_named(tmp_path, photographs, text, field):
    with pytest.raises(UserError) as raised:
        read_points(csv_file(tmp_path, text), photographs)
    assert f"clicks.csv: {field}" in str(raised.value)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", b"sep=;\nfile_name;x;y;category\nb.png;1;2;cup\n"),
        ("a.csv", "file_name,x,y,category\nb.png,1,2,cup\n".encode("utf-16")),
        ("a.csv", b"\nFilename,x,y,label\nb.png,1,2,cup\n"),
        ("a.csv", b"image_path,x,y,class\nb.png,1,2,cup\n"),
        ("a.csv", b"file_name,x,y,category,label\nb.png,1,2,cup,plate\n"),
        ("a.csv", b'file_name,x,y,category,why\nb.png,1,2,cup,"a comment\nof two lines"\n'),
        ("a.tsv", b"file_name\tx\ty\tcategory\nb.png\t1\t2\tcup\n"),
        ("a.txt", b"file_name,x,y,category\nb.png,1,2,cup\n"),
    ],
)
def test_tables_of_other_programs_are_read(tmp_path, photographs, name, content):
    (tmp_path / name).write_bytes(content)
    points = read_points(tmp_path / name, photographs)
    assert (points.xy.tolist(), [category.name for category in points.categories]) == ([[1, 2]], ["cup"])


def test_the_hash_is_that_of_the_bytes_that_were_read(tmp_path, photographs):
    content = {
        "images": [{"id": 1, "file_name": "b.png"}],
        "categories": [{"id": 1, "name": "cup"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "point": [1, 2]}],
    }
    path = tmp_path / "points.json"
    path.write_text(json.dumps(content))
    end, start = os.pipe()
    os.write(start, path.read_bytes())
    os.close(start)
    points = read_points(Path(f"/dev/fd/{end}"), photographs)
    os.close(end)
    assert points.sha256 == read_points(path, photographs).sha256 == sha256_file(path)


def test_csv_needs_an_image_folder_and_utf8(tmp_path, photographs):
    text = "file_name,x,y,category\nb.png,1,2,cüp\n"
    with pytest.raises(UserError, match="a CSV file holds no image sizes"):
        read_points(csv_file(tmp_path, text))
    with pytest.raises(UserError, match="which is not a folder"):
        read_points(csv_file(tmp_path, text), tmp_path / "none")
    with pytest.raises(UserError, match="which is not UTF-8 text"):
        read_points(csv_file(tmp_path, text, "latin-1"), photographs)


def test_a_link_out_of_the_image_folder_is_read_unless_that_is_refused(tmp_path, photographs, monkeypatch):
    Image.new("RGB", (20, 10)).save(tmp_path / "elsewhere.png")
    (photographs / "link.png").symlink_to(tmp_path / "elsewhere.png")
    file = csv_file(tmp_path, "file_name,x,y,category\nlink.png,1,2,cup\n")
    assert len(read_points(file, photographs)) == 1
    monkeypatch.setenv("SAPNET_REFUSE_LINKS", "1")
    with pytest.raises(UserError, match=r"line 2, file_name = link\.png, which a link places outside"):
        read_points(file, photographs)


TABLES = {
    "HerdNet": "images,x,y,labels\nb.png,4,3,elephant\n",
    "DeepForest": "image_path,x,y,label\n/home/field/b.png,4,3,elephant\n",
    "DeepForest geometry": "image_path,label,geometry\nb.png,elephant,POINT (4 3)\n",
    "DotDotGoose": "survey id,image,class,x,y\nday 1,b.png,elephant,4,3\n",
    "row and column": "filename;row;col;species\nb.png;3,0;4,0;elephant\n",
    "ImageJ results": " ,Area,X,Y,Counter,Label\n1,0,4,3,elephant,b.png:0001-0002\n",
    "URL": "image,x,y,class\nhttps://host/set/b%2Epng?token=1,4,3,elephant\n",
    "upload": "image,x,y,class\n/data/upload/1/3f2a91cc-b.png,4,3,elephant\n",
}


@pytest.mark.parametrize("text", TABLES.values(), ids=TABLES)
def test_tables_of_other_tools_give_the_same_point(tmp_path, photographs, text):
    path = tmp_path / "clicks.csv"
    path.write_text(text)
    points = read_points(path, photographs)
    assert points.xy.tolist() == [[4, 3]]
    assert [image.file_name for image in points.images.values()] == ["b.png"]
    assert [category.name for category in points.categories] == ["elephant"]


def test_a_napari_table_is_row_before_column_in_pixel_centres_and_of_the_photograph_of_its_name(tmp_path, photographs):
    path = tmp_path / "b.csv"
    path.write_text("index,axis-0,axis-1\n0,3.0,4.0\n")
    points = read_points(path, photographs, category="nucleus")
    assert (points.xy.tolist(), points.categories[0].name) == ([[4.5, 3.5]], "nucleus")


def test_a_table_without_classes_asks_for_one(tmp_path, photographs):
    path = tmp_path / "b.csv"
    path.write_text("index,axis-0,axis-1\n0,3.0,4.0\n")
    with pytest.raises(UserError, match="--category"):
        read_points(path, photographs)


def test_classes_that_are_numbers_keep_their_numbers(tmp_path, photographs):
    path = tmp_path / "clicks.csv"
    path.write_text("images,x,y,labels\nb.png,4,3,10\nb.png,5,3,2\n")
    points = read_points(path, photographs)
    assert [(one.category_id, one.name) for one in points.categories] == [(2, "2"), (10, "10")]
    assert points.category_id.tolist() == [10, 2]


def test_the_category_is_part_of_what_a_store_remembers_of_its_points(tmp_path, photographs):
    path = tmp_path / "b.csv"
    path.write_text("x,y\n4,3\n")
    one, other = (read_points(path, photographs, category=name) for name in ("cat", "dog"))
    assert one.sha256 != other.sha256


def test_fractions_of_the_sides_are_not_taken_for_pixels(tmp_path):
    (tmp_path / "photographs").mkdir()
    Image.new("RGB", (640, 480)).save(tmp_path / "photographs" / "b.png")
    (tmp_path / "a.csv").write_text("image,x,y,class\nb.png,0.1,0.2,cat\nb.png,0.5,0.2,cat\nb.png,1,0.9,cat\n")
    with pytest.raises(UserError, match="shares of width and height"):
        read_points(tmp_path / "a.csv", tmp_path / "photographs")
