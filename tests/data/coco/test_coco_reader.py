import copy
import json
from typing import Any

import pytest

from sapnet_pipe.data.coco.instances import counts_of, read_instances, read_truth
from sapnet_pipe.data.coco.masks import decode_mask
from sapnet_pipe.data.errors import UserError
from sapnet_pipe.data.json_files import write_coco


def test_ids_are_sorted_and_classes_follow_them(instances, save):
    dataset = read_instances(save(instances))
    assert list(dataset.images) == [3, 7]
    assert [annotation.annotation_id for annotation in dataset.annotations] == [28, 29, 30]
    assert dataset.category_index() == {4: 0, 9: 1}


def test_optional_fields_may_be_missing_and_unknown_ones_are_kept(instances, save):
    instances["annotations"][0] |= {"score": 0.5, "bbox": [1, 2, 3, 4], "area": 12}
    last = read_instances(save(instances)).annotations[-1]
    assert (last.bbox_xywh, last.area, last.iscrowd, dict(last.extra)) == ((1, 2, 3, 4), 12.0, False, {"score": 0.5})
    first = read_instances(save(instances)).annotations[0]
    assert (first.bbox_xywh, first.area, first.iscrowd, dict(first.extra)) == (None, None, True, {})


def test_masks_of_every_form_are_decoded_in_their_image(instances, save):
    dataset = read_instances(save(instances))
    areas = {
        annotation.annotation_id: int(decode_mask(counts_of(annotation, dataset.images[7], file="f"), 10, 20).sum())
        for annotation in dataset.annotations
    }
    assert areas == {30: 16, 29: 50, 28: 200}


def test_a_missing_mask_is_an_error_only_where_one_is_needed(instances, save):
    instances["annotations"][0]["segmentation"] = []
    dataset = read_instances(save(instances))
    with pytest.raises(UserError, match=r"annotation 30\.segmentation = None"):
        counts_of(dataset.annotations[-1], dataset.images[7], file="f")


@pytest.mark.parametrize(
    ("key", "value"),
    [("area", -1), ("area", float("inf")), ("area", "big")]
    + [("bbox", box) for box in ([1, 2, 3], [1, 2, -3, 4], [1, 2, 3, float("nan")], "none")],
)
def test_a_box_or_an_area_that_is_none_is_left_out_and_noted(instances, save, key, value):
    instances["annotations"][1][key] = value
    dataset = read_instances(save(instances))
    found = next(entry for entry in dataset.annotations if entry.annotation_id == instances["annotations"][1]["id"])
    assert (found.bbox_xywh if key == "bbox" else found.area) is None
    assert any(f"annotations[1].{key}" in note for note in dataset.notes)


def test_polygons_without_three_corners_are_left_out_and_counted(instances, save):
    good = [1, 1, 9, 1, 9, 9]
    instances["annotations"][0]["segmentation"] = [good, [1, 2, 3, 4], []]
    instances["annotations"][1]["segmentation"] = [[5, 5]]
    dataset = read_instances(save(instances))
    by_id = {annotation.annotation_id: annotation.segmentation for annotation in dataset.annotations}
    assert by_id[instances["annotations"][0]["id"]] == [good]
    assert by_id[instances["annotations"][1]["id"]] is None
    assert [note for note in dataset.notes if ": 3 polygons" in note]


@pytest.mark.parametrize("segmentation", [[[1, 1], [9, 1], [9, 9]], [[[1, 1], [9, 1], [9, 9]]]])
def test_corners_may_be_pairs(instances, save, segmentation):
    annotation = instances["annotations"][0]
    annotation["segmentation"] = segmentation
    dataset = read_instances(save(instances))
    by_id = {found.annotation_id: found.segmentation for found in dataset.annotations}
    assert by_id[annotation["id"]] == [[1, 1, 9, 1, 9, 9]]
    assert "1 polygons have corners in the form [x, y]" in dataset.notes[0]


@pytest.mark.parametrize(
    ("texts", "numbers"), [(("12", "007"), (12, 7)), (("left", "right"), (1, 2)), (("1", "01"), (1, 2))]
)
def test_image_ids_that_are_text_become_numbers(instances, save, texts, numbers):
    text_of = {image["id"]: text for image, text in zip(instances["images"], texts, strict=True)}
    expected = {entry["id"]: dict(zip(texts, numbers, strict=True))[text_of[entry["image_id"]]]
                for entry in instances["annotations"]}  # fmt: skip
    for entry in instances["images"]:
        entry["id"] = text_of[entry["id"]]
    for entry in instances["annotations"]:
        entry["image_id"] = text_of[entry["image_id"]]
    dataset = read_instances(save(instances))
    assert {image.text_id: key for key, image in dataset.images.items()} == dict(zip(texts, numbers, strict=True))
    assert {found.annotation_id: found.image_id for found in dataset.annotations} == expected
    assert "2 images have a text as id" in dataset.notes[0]
    path = save(instances).with_name("again.json")
    write_coco(path, info={}, images=dataset.images.values(), categories=dataset.categories, annotations=())
    assert {image["text_id"] for image in json.loads(path.read_text())["images"]} == set(texts)


def test_whole_numbers_written_as_floats_are_whole_numbers(instances, save):
    expected = read_instances(save(instances))
    for entries, keys in (("images", ("id", "width", "height")), ("categories", ("id",)),
                          ("annotations", ("id", "image_id", "category_id"))):  # fmt: skip
        for entry in instances[entries]:
            entry |= {key: float(entry[key]) for key in keys}
    found = read_instances(save(instances))
    assert (found.images, found.categories, found.notes) == (expected.images, expected.categories, expected.notes)
    assert [type(annotation.annotation_id) for annotation in found.annotations] == [int] * len(found.annotations)


def test_a_crowd_flag_of_null_is_none(instances, save):
    instances["annotations"][0]["iscrowd"] = None
    assert not any(entry.iscrowd for entry in read_instances(save(instances)).annotations if entry.annotation_id == 30)


def test_sizes_that_are_missing_are_asked_for(instances, save):
    del instances["images"][0]["width"], instances["images"][0]["height"]
    dataset = read_instances(save(instances), size_of=lambda name, field: (10, 20))
    assert (dataset.images[7].height, dataset.images[7].width) == (10, 20)
    assert "1 images have no width and height (first images[0].file_name = b/seven.png)" in dataset.notes[0]


def test_a_byte_order_mark_is_passed_over(instances, save):
    path = save(instances)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert len(read_instances(path).images) == 2


CASES: list[tuple[str, Any, str]] = [
    ("images[1].id", 7, "which another image has too"),
    ("images[0].id", True, "which is not a whole number"),
    ("images[0].id", 2**63, "which is not a whole number"),
    ("images[0].height", 0, "which is not a whole number from 1"),
    ("images[0].width", -4, "which is not a whole number from 1"),
    ("images[0].width", 20.5, "which is not a whole number from 1"),
    ("images[0].width", float("nan"), "which is not a whole number from 1"),
    ("images[0].width", 2**31 - 1, "more than a mask can hold"),
    ("images[0].file_name", None, "which is not a file name"),
    ("images[0].file_name", " ", "which is not a file name"),
    ("images[0].file_name", "half \ud83d", "which is not a file name"),
    ("images[0].file_name", "/etc/passwd", "which leaves the image folder"),
    ("images[0].file_name", "a/../../b.png", "which leaves the image folder"),
    ("images[0].file_name", "C:\\b.png", "which leaves the image folder"),
    ("images[0].file_name", "..\\b.png", "which leaves the image folder"),
    ("images[0].file_name", "a\0.png", "which leaves the image folder"),
    ("categories[1].id", 9, "which another category has too"),
    ("categories[0].id", 9.5, "which is not a whole number"),
    ("categories[0].id", 2**31, "which is not a whole number"),
    ("categories[0].name", 5, "which is not a name"),
    ("annotations[1].id", 30, "which another annotation has too"),
    ("annotations[1].id", 29.5, "which is not a whole number"),
    ("annotations[1].id", [1], "which is not a whole number"),
    ("annotations[1].id", 10**30, "which is not a whole number"),
    ("annotations[1].image_id", 8, "which is not among the images"),
    ("annotations[1].image_id", "7", "which is not a whole number"),
    ("annotations[1].image_id", True, "which is not a whole number"),
    ("annotations[1].category_id", 5, "which is not among the categories"),
    ("annotations[1].category_id", {}, "which is not a whole number"),
    ("annotations[1].iscrowd", 2, "which is neither 0 nor 1"),
    ("annotations[1].iscrowd", [], "which is neither 0 nor 1"),
    ("annotations[1].segmentation", 5, "which is neither polygons nor RLE"),
    ("images", [], "which holds no images"),
    ("categories", [], "which holds no categories"),
    ("annotations", [], "which holds no annotations"),
    ("annotations", {"0": {}}, "but a COCO file has a list of annotations"),
    ("images[0]", [], "which is not an object"),
    ("annotations[2]", None, "which is not an object"),
]


@pytest.mark.parametrize(
    ("field", "value", "problem"), [pytest.param(*case, id=f"{case[0]}={case[1]!a}") for case in CASES]
)
def test_a_wrong_value_is_named_with_its_field(instances, save, field, value, problem):
    name, _, rest = field.partition("[")
    index, _, key = rest.partition("].")
    if not rest:
        instances[name] = value
    elif key:
        instances[name][int(index)][key] = value
    else:
        instances[name][int(rest[:-1])] = value
    path = save(instances)
    with pytest.raises(UserError) as raised:
        read_instances(path)
    message = str(raised.value)
    assert message.startswith(f"{path}: {field} = ")
    assert problem in message
    assert "\n" not in message


@pytest.mark.parametrize("name", ["images", "categories", "annotations"])
def test_a_missing_key_is_named(instances, save, name):
    broken = copy.deepcopy(instances)
    del broken[name]
    with pytest.raises(UserError, match=f": {name} = None, but a COCO file has a list of {name}"):
        read_instances(save(broken))
    for key in ("id", *(("height", "width") if name == "images" else ())):
        broken = copy.deepcopy(instances)
        del broken[name][0][key]
        with pytest.raises(UserError, match=rf"{name}\[0\]\.{key} = None, missing"):
            read_instances(save(broken))


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"3", b"null", b"\xff\xfe\x00", b'"text"', b"[" * 100_000])
def test_what_is_not_a_coco_file_is_refused(tmp_path, content):
    path = tmp_path / "broken.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"broken\.json"):
        read_instances(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        read_instances(tmp_path / "none.json")
    with pytest.raises(UserError, match="it is a folder"):
        read_instances(tmp_path)


def test_crowds_are_objects_where_a_user_says_so(instances, save):
    path = save(instances)
    dataset = read_instances(path)
    assert [annotation.iscrowd for annotation in dataset.annotations].count(True) == 1
    assert "1 annotations have iscrowd 1" in dataset.notes[0]
    assert "--keep-crowds" in dataset.notes[0]
    kept = read_instances(path, keep_crowds=True)
    assert not any(annotation.iscrowd for annotation in kept.annotations)
    assert kept.notes == ()


def test_a_truth_leaves_out_what_has_no_mask_with_a_note_and_refuses_boxes_alone(instances, save):
    del instances["annotations"][0]["segmentation"]
    count = len(instances["annotations"])
    dataset = read_truth(save(instances))
    assert len(dataset.annotations) == count - 1
    assert "1 annotations have no mask (segmentation)" in dataset.notes[-1]
    for entry in instances["annotations"]:
        entry.pop("segmentation", None)
    with pytest.raises(UserError, match="masks are needed to measure"):
        read_truth(save(instances))
