from pathlib import Path

import pytest

from sapnet_pipe.data.coco.instances import Category, ImageRecord, InstanceAnnotation, InstanceDataset
from sapnet_pipe.data.errors import UserError
from sapnet_pipe.data.evaluation.coco_ap import coco_ap
from sapnet_pipe.data.evaluation.identity import (
    align,
    in_categories_of,
    match_categories,
    match_images,
    one_entry_per_photograph,
)

HEIGHT, WIDTH = 20, 30


def images(*names, first=1, size=(HEIGHT, WIDTH)):
    return {first + n: ImageRecord(first + n, name, *size) for n, name in enumerate(names)}


def categories(**ids):
    return tuple(sorted((Category(number, name) for name, number in ids.items()), key=lambda c: c.category_id))


def dataset(records, kinds, annotations=()):
    return InstanceDataset(Path("truth.json"), records, kinds, tuple(annotations))


def box(number, image_id, category_id=1, left=2):
    corners = [[left, 2, left + 6, 2, left + 6, 8, left, 8]]
    return InstanceAnnotation(number, image_id, category_id, corners, None, None, False, {})


def names_matched(own, theirs):
    found = match_images(own.values(), dataset(theirs, ()), source="own.json")
    return {own[a].file_name: theirs[b].file_name for a, b in found.items()}


def test_photographs_are_matched_by_name_whatever_their_numbers():
    own, theirs = images("a.png", "b.png", "c.png", first=7), images("c.png", "a.png", "b.png")
    assert names_matched(own, theirs) == {"a.png": "a.png", "b.png": "b.png", "c.png": "c.png"}


@pytest.mark.parametrize(
    ("own", "theirs"),
    [
        pytest.param("sub\\a.png", "sub/a.png", id="backslashes"),
        pytest.param("./a.png", "a.png", id="a dot before it"),
        pytest.param("cafe\u0301.png", "caf\u00e9.png", id="composed letters"),
        pytest.param("A.PNG", "a.png", id="capitals"),
        pytest.param("a.jpeg", "a.png", id="another suffix"),
        pytest.param("photos/a.png", "a.png", id="a folder before it"),
        pytest.param("a.png", "train\\deep\\A.png", id="folders on the other side"),
    ],
)
def test_the_same_name_spelt_in_another_way_is_the_same_photograph(own, theirs):
    assert names_matched(images(own, "x.png"), images("x.png", theirs)) == {own: theirs, "x.png": "x.png"}


def test_a_name_that_could_be_two_photographs_is_neither():
    assert names_matched(images("a.png", "b.png"), images("one/a.png", "two/a.png", "b.png")) == {"b.png": "b.png"}
    assert names_matched(images("one/a.png", "a.png"), images("a.png")) == {"a.png": "a.png"}
    assert names_matched(images("A.png", "b.png"), images("a.png", "a.PNG", "b.png")) == {"b.png": "b.png"}


def test_folders_tell_equal_names_apart():
    own, theirs = images("set/one/a.png", "set/two/a.png"), images("two/a.png", "one/a.png")
    assert names_matched(own, theirs) == {"set/one/a.png": "one/a.png", "set/two/a.png": "two/a.png"}


def test_photographs_without_a_counterpart_are_refused_where_there_is_no_other():
    with pytest.raises(UserError, match=r"own\.json: images = a\.png, none of which .* truth\.json \(b\.png\)"):
        names_matched(images("a.png"), images("b.png"))


def test_a_photograph_of_another_size_is_refused():
    with pytest.raises(UserError, match=r"images\[id=1\] = 40 x 50, but a\.png is 30 wide and 20 high in own\.json"):
        names_matched(images("a.png"), images("a.png", size=(50, 40)))


def test_entries_of_one_photograph_are_joined_and_doubled_objects_kept_once():
    listed = [box(1, 1), box(2, 2), box(3, 2, left=12)]
    truth = one_entry_per_photograph(dataset(images("a.png", "a.png", "b.png"), categories(cat=1), listed))
    assert list(truth.images) == [1, 3]
    assert [(a.annotation_id, a.image_id) for a in truth.annotations] == [(1, 1), (3, 1)]


def test_categories_are_matched_by_name():
    truth = dataset(images("a.png"), categories(Dog=17, cat=18))
    assert match_categories(categories(cat=1, dog=2), truth, source="own.json") == {1: 18, 2: 17}


def test_two_categories_of_one_name_are_told_apart_by_number():
    both = (Category(1, "cat"), Category(2, "cat"))
    assert match_categories(both, dataset(images("a.png"), both), source="own.json") == {1: 1, 2: 2}


def test_categories_of_which_none_is_shared_or_one_has_another_name_are_refused():
    truth = dataset(images("a.png"), categories(cat=1, dog=2))
    with pytest.raises(UserError, match=r"categories = cat, dog, none of which is a category of own\.json"):
        match_categories(categories(leaf=1), truth, source="own.json")
    with pytest.raises(UserError, match=r"id 2 = dog, but own\.json calls category 2 'hound'"):
        match_categories(categories(cat=1, hound=2), truth, source="own.json")


def test_what_is_on_one_side_only_and_what_has_another_number_is_noted():
    truth = dataset(images("a.png", "b.png"), categories(cat=5, cow=6), [box(1, 1, 5), box(2, 2, 6)])
    found = align(images("a.png", "z.png").values(), categories(cat=1, dog=2), truth, source="own.json")
    assert (found.image_ids, found.category_ids) == ({1: 1}, {1: 5})
    assert (found.strange_images, found.strange_categories) == ({2}, {2})
    assert found.notes == (
        "1 photographs of own.json that truth.json does not have: they do not count (z.png).",
        "1 categories of own.json that truth.json does not have: they do not count (dog).",
        "1 photographs of truth.json that are only there: they count as missed (b.png).",
        "1 categories of truth.json that are only there: they count as missed (cow).",
        "categories are matched by name, since truth.json numbers them otherwise: cat 1 is 5.",
    )


def test_a_truth_takes_over_the_numbers_of_the_training_labels():
    truth = dataset(images("a.png"), categories(dog=1, cat=2, cow=3), [box(1, 1, 1), box(2, 1, 2), box(3, 1, 3)])
    moved, notes = in_categories_of(categories(cat=1, dog=2), truth, source="own.json")
    assert [annotation.category_id for annotation in moved.annotations] == [2, 1, 4]
    assert moved.categories == categories(cat=1, dog=2, cow=4)
    assert notes == ["categories are matched by name, since truth.json numbers them otherwise: cat 1 is 2, dog 2 is 1."]
    shapes = {1: 2, 2: 1, 3: 4}  # annotation id -> category id in the training labels
    perfect = [
        {"image_id": 1, "category_id": shapes[a.annotation_id], "score": 0.5, "segmentation": a.segmentation}
        for a in truth.annotations
    ]
    assert coco_ap(moved, perfect)["AP"] == pytest.approx(1)
    same, notes = in_categories_of(truth.categories, truth, source="own.json")
    assert (same, notes) == (truth, [])
