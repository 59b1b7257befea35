"""Each tool's file, in its documented layout, holds the same three clicks as a COCO file."""

import copy
import json
import random
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from sapnet_pipe.data.errors import UserError
from sapnet_pipe.data.points import tool_names
from sapnet_pipe.data.points.reader import read_points

# (photograph, x, y, class) in our frame; b.png is 40 wide and 20 high.
CLICKS = [("a.png", 2.5, 3.5, "cat"), ("b.png", 30.5, 10.5, "cat"), ("b.png", 4.5, 16.5, "dog")]
SIZES = {"a.png": (10, 20), "b.png": (20, 40)}


def of(name):
    return [(x, y, category) for photo, x, y, category in CLICKS if photo == name]


def labelme(folder):
    for name, (height, width) in SIZES.items():
        shapes = [{"label": c, "points": [[x, y]], "shape_type": "point", "flags": {}} for x, y, c in of(name)]
        shapes.append({"label": "cat", "points": [[1, 1], [3, 3]], "shape_type": "rectangle", "flags": {}})
        root = {"version": "5.4.1", "imagePath": f"C:\\photos\\{name}", "imageData": None, "flags": {}} | {
            "shapes": shapes,
            "imageHeight": height,
            "imageWidth": width,
        }
        (folder / f"{name[0]}.json").write_text(json.dumps(root))
    return folder


def cvat(folder):
    images = ""
    for number, (name, (height, width)) in enumerate(SIZES.items()):
        points = "".join(f'<points label="{c}" points="{x:.2f},{y:.2f}"/>' for x, y, c in of(name))
        images += f'<image id="{number}" name="set/{name}" width="{width}" height="{height}">{points}</image>'
    path = folder / "annotations.xml"
    path.write_text(f"<?xml version='1.0'?><annotations><version>1.1</version>{images}</annotations>")
    return path


def _keypoint(name, x, y, category):
    height, width = SIZES[name]
    value = {"x": 100 * x / width, "y": 100 * y / height, "width": 0.5, "keypointlabels": [category]}
    return value, {"original_width": width, "original_height": height, "type": "keypointlabels"}


def label_studio(folder):
    tasks = []
    for name in SIZES:
        results = [{"value": value, **rest} for value, rest in (_keypoint(name, *click) for click in of(name))]
        annotations = [{"result": [], "was_cancelled": True}, {"result": results}]
        tasks.append({"id": 1, "data": {"image": f"/data/upload/1/0f3a-{name}"}, "annotations": annotations})
    path = folder / "export.json"
    path.write_text(json.dumps(tasks))
    return path


def label_studio_min(folder):
    tasks = []
    for name in SIZES:
        regions = [value | rest for value, rest in (_keypoint(name, *click) for click in of(name))]
        tasks.append({"image": f"/data/local-files/?d=set/{name}", "id": 1, "kp": regions, "annotator": 1})
    path = folder / "export.json"
    path.write_text(json.dumps(tasks))
    return path


def _via_regions(name):
    shapes = [({"name": "point", "cx": x, "cy": y}, {"class": c, "seen": "1"}) for x, y, c in of(name)]
    return [{"shape_attributes": shape, "region_attributes": attributes} for shape, attributes in shapes]


def via(folder):
    entries = {f"{name}99": {"filename": name, "size": 99, "regions": _via_regions(name)} for name in SIZES}
    path = folder / "via.json"
    path.write_text(json.dumps({"_via_settings": {}, "_via_img_metadata": entries}))
    return path


def via_csv(folder):
    lines = ["filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes"]
    for name in SIZES:
        for number, region in enumerate(_via_regions(name)):
            cells = [json.dumps(value).replace('"', '""') for value in region.values()]
            lines.append(f'{name},99,"{{}}",1,{number},"{cells[0]}","{cells[1]}"')
    path = folder / "via.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def dotdotgoose(folder):
    points: dict[str, dict[str, list[dict[str, float]]]] = {name: {} for name in SIZES}
    for name, x, y, category in CLICKS:
        points[name].setdefault(category, []).append({"x": x, "y": y})
    path = folder / "survey.pnt"
    path.write_text(json.dumps({"classes": ["cat", "dog"], "points": points, "colors": {}, "metadata": {}}))
    return path


def cell_counter(folder):
    for name in SIZES:
        kinds = ""
        for number, category in enumerate(("cat", "dog"), 1):
            spots = [(int(x), int(y)) for x, y, c in of(name) if c == category]
            markers = "".join(f"<Marker><MarkerX>{x}</MarkerX><MarkerY>{y}</MarkerY></Marker>" for x, y in spots)
            kinds += f"<Marker_Type><Type>{number}</Type><Name>{category}</Name>{markers}</Marker_Type>"
        head = f"<Image_Properties><Image_Filename>{name}</Image_Filename></Image_Properties>"
        text = f"<CellCounter_Marker_File>{head}<Marker_Data>{kinds}</Marker_Data></CellCounter_Marker_File>"
        (folder / f"CellCounter_{name}.xml").write_text(text)
    return folder


def geojson(folder):
    for name in SIZES:
        features = [
            {
                "type": "Feature",
                "geometry": {"type": "MultiPoint", "coordinates": [[x, y]]},
                "properties": {"objectType": "annotation", "classification": {"name": c}},
            }
            for x, y, c in of(name)
        ]
        root = {"type": "FeatureCollection", "features": features}
        (folder / f"{name[0]}.geojson").write_text(json.dumps(root))
    return folder


def darwin(folder):
    for name, (height, width) in SIZES.items():
        slots = [{"slot_name": "0", "width": width, "height": height}]
        annotations = [{"name": c, "keypoint": {"x": x, "y": y}, "slot_names": ["0"]} for x, y, c in of(name)]
        root = {"version": "2.0", "item": {"name": name, "path": "/", "slots": slots}, "annotations": annotations}
        (folder / f"{name}.json").write_text(json.dumps(root))
    return folder


def fiftyone(folder):
    samples = []
    for name, (height, width) in SIZES.items():
        clicks = [{"_cls": "Keypoint", "label": c, "points": [[x / width, y / height]]} for x, y, c in of(name)]
        truth = {"_cls": "Keypoints", "keypoints": clicks}
        samples.append({"filepath": f"data/{name}", "metadata": {"width": width, "height": height}, "points": truth})
    path = folder / "samples.json"
    path.write_text(json.dumps({"samples": samples}))
    return path


TOOLS = (
    labelme,
    cvat,
    label_studio,
    label_studio_min,
    via,
    via_csv,
    dotdotgoose,
    cell_counter,
    geojson,
    darwin,
    fiftyone,
)


@pytest.mark.parametrize("write", TOOLS)
def test_a_tools_file_gives_the_same_points_as_coco(tmp_path, photographs, write):
    folder = tmp_path / "clicks"
    folder.mkdir()
    points = read_points(write(folder), photographs)
    names = {category.category_id: category.name for category in points.categories}
    found = [
        (points.images[image_id].file_name, *xy, names[category_id])
        for image_id, xy, category_id in zip(
            points.image_id.tolist(), points.xy.tolist(), points.category_id.tolist(), strict=True
        )
    ]
    assert [(name, c) for name, _, _, c in sorted(found)] == [(name, c) for name, _, _, c in sorted(CLICKS)]
    xy, expected = ([one[1:3] for one in sorted(rows)] for rows in (found, CLICKS))
    assert np.allclose(xy, expected, atol=1e-3)
    assert {image.file_name: (image.height, image.width) for image in points.images.values()} == SIZES


def test_other_shapes_of_labelme_are_counted(tmp_path, photographs):
    (tmp_path / "clicks").mkdir()
    points = read_points(labelme(tmp_path / "clicks"), photographs)
    assert points.dropped["shapes_that_are_not_points"] == 2
    assert points.taken_for == "labelme"


@pytest.mark.parametrize("blob", [1, 3])
def test_dot_images_give_a_point_per_pixel_or_blob(tmp_path, photographs, blob):
    dots = np.zeros((20, 40), np.uint8)
    for x, y in ((5, 5), (30, 12)):
        dots[y - blob // 2 : y + blob // 2 + 1, x - blob // 2 : x + blob // 2 + 1] = 255
    Image.fromarray(dots).save(tmp_path / "b_dots.png")
    points = read_points(tmp_path / "b_dots.png", photographs, category="cell")
    assert points.xy.tolist() == [[5.5, 5.5], [30.5, 12.5]]
    assert points.images[1].file_name == "b.png"


def test_a_photograph_given_as_dot_image_is_refused(tmp_path, photographs):
    Image.new("RGB", (40, 20), "white").save(tmp_path / "b_dots.png")
    with pytest.raises(UserError, match="no image of dots"):
        read_points(tmp_path / "b_dots.png", photographs, category="cell")


def test_several_pairs_of_a_cvat_shape_are_several_objects(tmp_path, photographs):
    image = '<image id="0" name="a.png" width="20" height="10"><points label="cat" points="1,2;3,4"/></image>'
    (tmp_path / "a.xml").write_text(f"<annotations>{image}</annotations>")
    assert read_points(tmp_path / "a.xml", photographs).xy.tolist() == [[1, 2], [3, 4]]


def test_xml_with_a_document_type_is_refused(tmp_path, photographs):
    (tmp_path / "a.xml").write_text('<!DOCTYPE a [<!ENTITY b "c">]><annotations/>')
    with pytest.raises(UserError, match="DOCTYPE"):
        read_points(tmp_path / "a.xml", photographs)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ('{"shapes": [{"shape_type": "point", "label": "cat"}], "imagePath": "a.png"}', "damaged labelme"),
        ('{"shapes": [], "imagePath": "a.png"}', "Mark every object by a point"),
        ('{"shapes": [], "imagePath": "../../a.png"}', "Mark every object|leaves the image folder"),
        ('{"shapes": [{"shape_type": "point", "points": [[99, 1]], "label": "c"}], "imagePath": "a.png"}', "20 wide"),
        ('{"shapes": [{"shape_type": "point", "points": [[-9, 1]], "label": "c"}], "imagePath": "a.png"}', "x = -9"),
        ('{"shapes": [{"shape_type": "point", "points": [[1, 1]], "label": "c"}], "imagePath": "z.png"}', "z.png"),
        ('{"shapes": [{"shape_type": "point", "points": [[1, 1]]}], "imagePath": "a.png"}', "--category"),
    ],
)
def test_faults_of_a_tools_file_are_one_line(tmp_path, photographs, text, match):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(UserError, match=match):
        read_points(tmp_path / "a.json", photographs)


def test_a_name_that_may_be_two_photographs_is_refused(tmp_path, photographs):
    for folder in ("one", "two"):
        (photographs / folder).mkdir()
        Image.new("RGB", (20, 10)).save(photographs / folder / "c.png")
    (tmp_path / "a.csv").write_text("image,x,y,class\n/home/c.png,1,2,cat\n")
    with pytest.raises(UserError, match=r"one/c\.png or two/c\.png"):
        read_points(tmp_path / "a.csv", photographs)


def test_a_folder_of_two_forms_asks_which(tmp_path, photographs):
    folder = tmp_path / "clicks"
    folder.mkdir()
    labelme(folder), cvat(folder)
    with pytest.raises(UserError, match="--points-format"):
        read_points(folder, photographs)
    assert len(read_points(folder, photographs, form="cvat")) == 3


WRONG: tuple[object, ...] = (None, True, -1, "", "x", [], {}, [[]], "\ud800", 10**30, float("nan"), {"a": 1}, "../..")


def spoiled(value, rng):
    """A copy of a JSON value with one part gone, or replaced by a wrong one."""
    value, places = copy.deepcopy(value), []

    def collect(part):
        for key in part if isinstance(part, dict) else range(len(part)) if isinstance(part, list) else ():
            places.append((part, key))
            collect(part[key])

    collect(value)
    part, key = rng.choice(places)
    if rng.random() < 0.3:
        del part[key]
    else:
        part[key] = rng.choice(WRONG)
    return value


@pytest.mark.parametrize("write", TOOLS)
def test_a_damaged_file_is_read_or_refused_in_one_line(tmp_path, photographs, write):
    folder, rng, refusals = tmp_path / "clicks", random.Random(0), list[str]()
    folder.mkdir()
    path = write(folder)
    path = path if path.is_file() else min(folder.iterdir())
    whole = path.read_bytes()
    for _ in range(60):
        if whole[:1] in (b"{", b"[") and rng.random() < 0.7:
            path.write_bytes(json.dumps(spoiled(json.loads(whole), rng)).encode("utf-8", "surrogatepass"))
        else:
            content = bytearray(whole)
            content[rng.randrange(len(content))] = rng.randrange(256)
            path.write_bytes(content[: rng.randrange(1, len(content))] if rng.random() < 0.3 else content)
        try:
            read_points(path, photographs)
        except UserError as error:
            refusals.append(str(error))
    assert refusals
    assert not any("\n" in line for line in refusals)


def test_the_photographs_are_listed_once_for_a_folder_of_tables_and_a_name_is_looked_up_once(
    tmp_path, photographs, monkeypatch
):
    calls = Counter[str]()

    def counted(name):
        real = getattr(tool_names, name)

        def call(*given, **more):
            calls[name] += 1
            return real(*given, **more)

        monkeypatch.setattr(tool_names, name, call)

    counted("photographs_in")
    counted("find_photograph")
    folder = tmp_path / "clicks"
    folder.mkdir()
    for name in "ab":
        (folder / f"{name}.csv").write_text("index,axis-0,axis-1\n0,3,4\n1,5,6\n")
    assert len(read_points(folder, photographs, category="cell")) == 4
    assert calls == {"photographs_in": 1, "find_photograph": 2}
