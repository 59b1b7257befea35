import json
import random

import numpy as np
import pytest

from sapnet_pipe.data.authors_file.convert import export_bags, import_bags
from sapnet_pipe.data.authors_file.layout import Layout
from sapnet_pipe.data.bag_store.store import BagStore
from sapnet_pipe.data.coco.masks import decode_mask
from sapnet_pipe.data.errors import UserError
from sapnet_pipe.data.points.reader import read_points
from tests.data.bag_store.bag_examples import table_columns, write_store

SIDE = 12


def _rectangle(size):
    """A polygon, and the box XYWH, of a square at (2, 2)."""
    return [[2, 2, 2 + size, 2, 2 + size, 2 + size, 2, 2 + size]], [2, 2, size, size]


def _entry(point_id=1, image_id=1, sizes=(2, 3, 4, 5, 6, 7), **changes):
    masks, boxes = zip(*map(_rectangle, sizes), strict=True)
    entry = {"id": point_id, "image_id": image_id, "category_id": 3, "iscrowd": 0, "point": [3.25, 3.5]}
    entry |= {"bbox": [0, 0, 6, 6], "true_bbox": [1, 1, 4, 4]}
    entry |= {"all_masks": list(masks), "all_boxes": list(boxes), "sam_iou": [0.5, 0.9, 0.7]}
    return entry | changes


def _write(path, annotations, images=2, **changes):
    records = [{"id": n, "file_name": f"{n}.jpg", "height": SIDE, "width": SIDE} for n in range(1, images + 1)]
    document = {"annotations": annotations, "categories": [{"id": 3, "name": "cup"}], "images": records}
    path.write_text(json.dumps(document | changes))
    return path


def _import(tmp_path, *annotations, **options):
    done = import_bags(_write(tmp_path / "sam.json", list(annotations)), tmp_path / "bags", quiet=True, **options)
    return done, BagStore.open(tmp_path / "bags")


def test_six_masks_and_three_scores_become_a_bag_that_knows_which_the_click_made(tmp_path):
    done, store = _import(tmp_path, _entry())
    table = store.read_table()
    np.testing.assert_array_equal(table.masks.box_xyxy, [[2, 2, 2 + n, 2 + n] for n in (2, 3, 4, 5, 6, 7)])
    np.testing.assert_array_equal(table.masks.area, [n * n for n in (2, 3, 4, 5, 6, 7)])
    np.testing.assert_array_equal(table.masks.source, [1, 2, 3, 4, 8, 12])
    np.testing.assert_allclose(table.masks.score, [0.5, 0.9, 0.7, 0, 0, 0], rtol=1e-6)
    assert table.point_xy.tolist() == [[3.25, 3.5]]
    assert done.layout == Layout("all_masks", "all_boxes", "sam_iou")
    assert done.manifest.dropped["masks_without_score"] == 3
    assert done.manifest.dropped["boxes_that_differ"] == 0


def test_the_authors_own_names_are_found(tmp_path):
    entry = _entry()
    for ours, theirs in (("segmentation", "all_masks"), ("bbox", "all_boxes"), ("scores", "sam_iou")):
        entry[ours] = entry.pop(theirs)
    imported, store = _import(tmp_path, entry)
    assert imported.layout == Layout("segmentation", "bbox", "scores")
    assert imported.manifest.dropped["boxes_that_differ"] == 0
    table = store.read_table()
    assert table.masks.score.tolist() == pytest.approx([0.5, 0.9, 0.7, 0, 0, 0])
    assert read_points(tmp_path / "sam.json").xy.tolist() == [[3.25, 3.5]]  # the same file gives the clicks


def test_any_number_of_masks_makes_a_bag(tmp_path):
    _, store = _import(tmp_path, _entry(sizes=(2,)), _entry(2, sizes=(2, 3, 4, 5, 6, 7, 8, 9, 10)))
    table = store.read_table()
    assert table.bag_sizes.tolist() == [1, 9]
    assert table.masks.source.tolist() == [1, 1, 2, 3, 4, 8, 12, 16, 17, 18]


def test_polygons_and_both_kinds_of_rle_are_read(tmp_path):
    mask = np.zeros((SIDE, SIDE), bool)
    mask[1:4, 2:9] = True
    runs = [int(n) for n in np.diff(np.flatnonzero(np.diff(mask.T.reshape(-1), prepend=0, append=0)))]
    first = int(np.flatnonzero(mask.T.reshape(-1))[0])
    plain = {"size": [SIDE, SIDE], "counts": [first, *runs, SIDE * SIDE - first - sum(runs)]}
    entry = _entry(all_masks=[plain, *_entry()["all_masks"][1:]])
    _, store = _import(tmp_path, entry)
    counts = store.read_masks(1)[1]
    assert (decode_mask(counts[0], SIDE, SIDE) == mask).all()
    again = _entry(all_masks=[{"size": [SIDE, SIDE], "counts": code.decode()} for code in counts])
    import_bags(_write(tmp_path / "again.json", [again]), tmp_path / "again", quiet=True)
    assert BagStore.open(tmp_path / "again").read_masks(1)[1] == counts


def test_annotations_in_any_order_become_shards_in_order(tmp_path):
    pairs = [(image, 100 * (9 - image) + place) for image in range(1, 6) for place in range(3)]
    shuffled = random.Random(0).sample(pairs, len(pairs))
    entries = [_entry(point_id, image_id) for image_id, point_id in shuffled]
    path = _write(tmp_path / "sam.json", entries, images=5)
    done = import_bags(path, tmp_path / "bags", shard_images=2, quiet=True)
    table = BagStore.open(tmp_path / "bags").read_table()
    assert list(zip(table.image_id.tolist(), table.point_id.tolist(), strict=True)) == sorted(pairs)
    assert [shard.images for shard in done.manifest.shards] == [2, 2, 1]


def test_what_is_left_out_is_counted(tmp_path):
    masks = _entry()["all_masks"]
    entries = [
        _entry(1, all_masks=[masks[0], masks[1], masks[0], [], masks[4], masks[5]]),
        _entry(2, iscrowd=1),
        {key: value for key, value in _entry(3).items() if key not in ("point", "bbox", "true_bbox")},
        _entry(4, all_masks=[[]] * 6),
        _entry(5, all_boxes=[[0, 0, 1, 1]] * 6),
    ]
    done, store = _import(tmp_path, *entries)
    dropped = done.manifest.dropped
    assert store.read_table().point_id.tolist() == [1, 5]
    np.testing.assert_array_equal(store.read_table().masks.source[:4], [1, 2, 8, 12])
    assert (dropped["repeated_masks"], dropped["empty_masks"]) == (1, 7)
    assert (dropped["crowd"], dropped["without_point"], dropped["points_without_masks"]) == (1, 1, 1)
    assert dropped["boxes_that_differ"] == 6


def test_boxes_may_be_corners(tmp_path):
    corners = [[x, y, x + w, y + h] for x, y, w, h in _entry()["all_boxes"]]
    done, _ = _import(tmp_path, _entry(all_boxes=corners))
    assert done.manifest.dropped["boxes_that_differ"] == 0


def test_clicks_may_come_from_another_file(tmp_path):
    bare = {key: value for key, value in _entry().items() if key not in ("point", "bbox", "true_bbox")}
    clicks = _write(tmp_path / "points.json", [{"id": 1, "image_id": 1, "category_id": 3, "point": [5, 6.5]}])
    done, store = _import(tmp_path, bare, bare | {"id": 2}, points=read_points(clicks))
    assert store.read_table().point_xy.tolist() == [[5, 6.5]]
    assert done.manifest.dropped["without_point"] == 1
    with pytest.raises(UserError, match=r"annotations\[0\].image_id = 2, but .* has point 1 on image 1"):
        import_bags(_write(tmp_path / "b.json", [_entry(1, 2)]), tmp_path / "b", points=read_points(clicks), quiet=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"all_masks": [[[0, 0, 1]]] * 6}, "without a list of masks under any name", id="no polygon"),
        pytest.param({"all_masks": []}, "without a list of masks under any name", id="no masks"),
        pytest.param(
            {"all_masks": [[[0, 0, 3, 0, 3, 3]]] * 119}, "119 masks, .* not a list of 1 to 118", id="119 masks"
        ),
        pytest.param({"id": "x"}, r"annotations\[0\].id", id="an id that is a text"),
        pytest.param({"image_id": 9}, r"annotations\[0\].image_id = 9, .*not among the images", id="unknown image"),
        pytest.param({"true_bbox": 0, "point": [99, 3]}, "but image 1 is 12 wide", id="a click outside"),
        pytest.param(
            {"all_masks": [{"size": [9, 9], "counts": [81]}] * 6}, r"all_masks\[0\].size", id="masks of another size"
        ),
    ],
)
def test_a_bad_annotation_is_named(tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        _import(tmp_path, _entry(**changes))
    assert not (tmp_path / "bags").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"sam_iou": [0.1] * 7}, r"annotations\[1\].sam_iou .*at most 6 scores", id="too many scores"),
        pytest.param({"sam_iou": [0.1, None]}, r"annotations\[1\].sam_iou\[1\] = None", id="a score that is none"),
        pytest.param({"all_boxes": [[0, 0, 1, 1]]}, r"annotations\[1\].all_boxes .*a box for every mask", id="one box"),
        pytest.param({"all_masks": 3}, r"annotations\[1\].all_masks = 3", id="masks that are none"),
        pytest.param({"sapnet_pipe": {"score": [1]}}, r"annotations\[1\].sapnet_pipe ", id="our column cut"),
    ],
)
def test_a_bad_list_is_named_once_the_layout_is_known(tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        _import(tmp_path, _entry(), _entry(2, **changes))


@pytest.mark.parametrize("text", ['{"annotations": [{"id": 1', '{"annotations": [{"id": NaN}]}', "", "\x00"])
def test_a_file_that_is_no_json_is_named(tmp_path, text):
    (tmp_path / "sam.json").write_text(text)
    with pytest.raises(UserError, match=r"sam.json: .*(not valid JSON|list of images)"):
        import_bags(tmp_path / "sam.json", tmp_path / "bags", quiet=True)


def test_a_file_without_bags_is_refused(tmp_path):
    with pytest.raises(UserError, match="none of which gives a bag"):
        _import(tmp_path, _entry(iscrowd=1))


def test_an_exported_store_comes_back_as_it_was(tmp_path):
    store = write_store(tmp_path / "bags")
    assert export_bags(store, tmp_path / "sam.json", quiet=True) == store.manifest.points
    import_bags(tmp_path / "sam.json", tmp_path / "back", shard_images=2, quiet=True)
    back = BagStore.open(tmp_path / "back")
    after = table_columns(back.read_table())
    for name, values in table_columns(store.read_table()).items():
        np.testing.assert_array_equal(after[name], values, err_msg=name)
    assert dict(back.iter_masks()) == dict(store.iter_masks())
    assert back.categories == store.categories


def test_an_exported_annotation_has_six_masks_and_boxes_and_three_scores(tmp_path):
    store = write_store(tmp_path / "bags")
    export_bags(store, tmp_path / "sam.json", quiet=True)
    annotations = json.loads((tmp_path / "sam.json").read_text())["annotations"]
    assert {(len(a["segmentation"]), len(a["bbox"]), len(a["scores"])) for a in annotations} == {(6, 6, 3)}
    assert all(len(box) == 4 and box[2] > 0 for a in annotations for box in a["bbox"])
    x, y, width, height = annotations[0]["true_bbox"]
    assert [x + width / 2, y + height / 2] == annotations[0]["point"]


def test_a_byte_order_mark_is_passed_over(tmp_path):
    path = _write(tmp_path / "marked.json", [_entry()])
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    import_bags(path, tmp_path / "bags", quiet=True)
    assert len(BagStore.open(tmp_path / "bags").read_table()) == 1
