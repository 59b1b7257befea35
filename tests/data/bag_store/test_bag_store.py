import dataclasses
import json
import os
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest

from sapnet_pipe.data.bag_store.masks import MaskColumns
from sapnet_pipe.data.bag_store.schema import IMAGES_PER_ROW_GROUP, SCHEMA
from sapnet_pipe.data.bag_store.store import BagStore
from sapnet_pipe.data.errors import UserError
from sapnet_pipe.stages.bags.inspect import inspect
from sapnet_pipe.stages.bags.verify import verify
from tests.data.bag_store.bag_examples import CATEGORIES, example_shards, identity, make_bag, table_columns, write_store


def test_every_value_comes_back_as_it_was_written(tmp_path):
    bags = [bag for shard in example_shards() for bag in shard]
    store = write_store(tmp_path)
    table = store.read_table()
    assert len(table) == len(bags)
    assert store.categories == CATEGORIES
    assert table.offsets[-1] == len(table.masks) == sum(len(bag.masks) for bag in bags)
    for row, bag in enumerate(bags):
        masks = table.masks.take(table.bag(row))
        assert (table.image_id[row], table.point_id[row], table.category_id[row]) == (
            bag.image_id,
            bag.point_id,
            bag.category_id,
        )
        assert (table.file_name[row], table.height[row], table.width[row]) == (bag.file_name, bag.height, bag.width)
        assert tuple(table.point_xy[row]) == bag.point_xy
        for name in ("box_xyxy", "score", "stability", "area", "source"):
            np.testing.assert_array_equal(getattr(masks, name), getattr(bag.masks, name), err_msg=name)
        assert store.read_masks(bag.image_id)[bag.point_id] == bag.masks.rle


def test_columns_have_the_types_that_the_format_promises(tmp_path):
    columns = table_columns(write_store(tmp_path).read_table())
    wanted = {
        "image_id": np.int64, "point_id": np.int64, "offsets": np.int64, "height": np.int32, "width": np.int32,
        "category_id": np.int32, "area": np.int32, "point_xy": np.float32, "box_xyxy": np.float32,
        "score": np.float32, "stability": np.float32, "source": np.int8, "file_name": np.object_,
    }  # fmt: skip
    assert {name: values.dtype.type for name, values in columns.items()} == wanted
    assert pq.read_schema(tmp_path / "bags-00000.parquet").equals(SCHEMA)


def test_iterating_gives_every_image_once_in_order(tmp_path):
    bags = [bag for shard in example_shards() for bag in shard]
    store = write_store(tmp_path)
    images = list(store.iter_masks())
    assert [image_id for image_id, _ in images] == sorted({bag.image_id for bag in bags})
    assert {point: rle for _, masks in images for point, rle in masks.items()} == {
        bag.point_id: bag.masks.rle for bag in bags
    }


def test_one_image_is_found_among_many_row_groups(tmp_path):
    images = 2 * IMAGES_PER_ROW_GROUP + 3
    shard = [make_bag(3 * image, image) for image in range(images)]
    store = write_store(tmp_path, [shard])
    assert pq.ParquetFile(tmp_path / "bags-00000.parquet").num_row_groups == 3
    for image in (0, IMAGES_PER_ROW_GROUP - 1, IMAGES_PER_ROW_GROUP, images - 1):
        assert store.read_masks(3 * image) == {image: shard[image].masks.rle}


@pytest.mark.parametrize("image_id", [pytest.param(5, id="before"), pytest.param(15, id="between"), 999])
def test_an_image_without_points_is_a_key_error(tmp_path, image_id):
    with pytest.raises(KeyError):
        write_store(tmp_path).read_masks(image_id)


def test_the_same_bags_give_the_same_bytes(tmp_path):
    write_store(tmp_path / "a")
    write_store(tmp_path / "b")
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names == ["bags-00000.parquet", "bags-00001.parquet", "bags-00002.parquet", "manifest.json"]
    assert names == sorted(path.name for path in (tmp_path / "b").iterdir())
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_the_manifest_counts_what_is_there_and_what_was_dropped(tmp_path):
    store = write_store(tmp_path)
    content = json.loads((tmp_path / "manifest.json").read_text())
    assert (content["images"], content["points"]) == (5, 11)
    assert content["masks"] == len(store.read_table().masks)
    assert content["dropped"] == {"crowd": 2, "empty_masks": 3}
    assert content["categories"] == [{"id": 1, "name": "cat"}, {"id": 7, "name": "dog"}]
    assert content["status"] == "complete"
    assert content["fingerprint"] == identity().fingerprint() == store.fingerprint


def test_every_field_of_the_identity_changes_the_fingerprint():
    changes = {
        "sam_model": "vit_b", "checkpoint_sha256": "2" * 64, "recipe": "multimask", "recipe_settings": {"refine": 1},
        "precision": "bfloat16", "points_sha256": "3" * 64, "shard_images": 3, "schema_version": 2,
    }  # fmt: skip
    prints = {identity(**{name: value}).fingerprint() for name, value in changes.items()}
    assert len(prints | {identity().fingerprint()}) == len(changes) + 1


def test_a_store_of_another_fingerprint_is_refused(tmp_path):
    write_store(tmp_path)
    with pytest.raises(UserError, match="fingerprint"):
        BagStore.open(tmp_path, expect_fingerprint="4" * 64)
    assert BagStore.open(tmp_path, expect_fingerprint=identity().fingerprint()).manifest.points == 11


def _remove(path):
    path.unlink()


def _cut(path):
    path.write_bytes(path.read_bytes()[:-7])


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        pytest.param("bags-00001.parquet", _remove, "bags-00001.parquet: shard = missing", id="shard missing"),
        pytest.param("bags-00001.parquet", _cut, "bags-00001.parquet: bytes", id="shard cut short"),
        pytest.param("manifest.json", _remove, "manifest.json = missing", id="manifest missing"),
        pytest.param("manifest.json", _cut, "not valid JSON", id="manifest cut short"),
    ],
)
def test_a_damaged_store_is_refused_as_it_is_opened(tmp_path, name, damage, message):
    write_store(tmp_path)
    damage(tmp_path / name)
    with pytest.raises(UserError, match=message):
        BagStore.open(tmp_path)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        pytest.param("schema_version", 2, id="later schema"),
        pytest.param("recipe", "multimask", id="edited identity"),
        pytest.param("points", 12, id="wrong count"),
        pytest.param("sam_model", None, id="null"),
        pytest.param("shards", [{"file": "bags-00000.parquet"}], id="shard without figures"),
        pytest.param("shards", None, id="no shards"),
        pytest.param("categories", [{"id": "x"}], id="bad category"),
    ],
)
def test_an_edited_manifest_is_refused(tmp_path, field, value):
    write_store(tmp_path)
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: value}))
    with pytest.raises(UserError, match=r"manifest\.json"):
        BagStore.open(tmp_path)


def test_a_flipped_byte_in_a_shard_is_noticed_by_whoever_reads_it(tmp_path):
    write_store(tmp_path)
    path = tmp_path / "bags-00000.parquet"
    content = bytearray(path.read_bytes())
    chunk = pq.ParquetFile(path).metadata.row_group(0).column(SCHEMA.names.index("width"))
    content[chunk.data_page_offset + chunk.total_compressed_size - 2] ^= 1
    path.write_bytes(content)
    store = BagStore.open(tmp_path)
    with pytest.raises(UserError, match=r"bags-00000\.parquet: content"):
        store.read_table()


def test_a_shard_of_another_store_is_refused_when_read(tmp_path):
    write_store(tmp_path / "a")
    write_store(tmp_path / "b", precision="bfloat16")
    (tmp_path / "b" / "bags-00001.parquet").write_bytes((tmp_path / "a" / "bags-00001.parquet").read_bytes())
    with pytest.raises(UserError, match=r"bags-00001\.parquet: (fingerprint|bytes)"):
        BagStore.open(tmp_path / "b").read_table()


def test_a_store_without_shards_is_refused(tmp_path):
    with pytest.raises(UserError, match="the store is empty"):
        write_store(tmp_path, [])


def test_an_unfinished_store_says_how_to_finish_it(tmp_path):
    write_store(tmp_path)
    (tmp_path / "manifest.json").rename(tmp_path / "manifest.partial.json")
    with pytest.raises(UserError, match=r"not finished\. Run generate-bags again"):
        BagStore.open(tmp_path)


def test_a_bag_without_masks_or_with_uneven_columns_is_a_programming_error():
    with pytest.raises(ValueError, match="not of one length"):
        make_bag(1, 3, 2, scores=[0.5, 0.6, 0.7])
    with pytest.raises(ValueError, match="point 3"):
        make_bag(1, 3, 0)


def test_masks_are_taken_by_slice_place_and_flag_and_joined_again():
    masks = make_bag(1, 3, 4).masks
    first, last = masks.take(slice(0, 3)), masks.take([3])
    joined = MaskColumns.concat([first, last])
    assert joined.rle == masks.rle
    np.testing.assert_array_equal(joined.box_xyxy, masks.box_xyxy)
    assert joined.feature is None
    assert masks.take(masks.source > 2).rle == masks.rle[2:]
    assert len(masks.take(np.zeros(4, bool))) == 0
    featured = dataclasses.replace(last, feature=np.zeros((1, 5), np.float16))
    with pytest.raises(ValueError, match="only some"):
        MaskColumns.concat([first, featured])


@pytest.mark.skipif(sys.platform != "linux", reason="names that are not UTF-8 are Linux's")
def test_a_sound_store_below_a_folder_whose_name_is_not_utf8_is_read(tmp_path):
    place = tmp_path / os.fsdecode(b"caf\xe9") / "store"
    write_store(place)
    assert verify(place, quiet=True).points == inspect(place, quiet=True).points == BagStore.open(place).manifest.points


def test_one_column_is_read_alone_with_the_bounds_of_its_bags(tmp_path):
    store = write_store(tmp_path)
    table = store.read_table()
    boxes = store.read_column("mask_box")
    np.testing.assert_array_equal(boxes.values, table.masks.box_xyxy)
    np.testing.assert_array_equal(boxes.offsets, table.offsets)
    np.testing.assert_array_equal(store.read_column("mask_score").values, table.masks.score)
    assert store.read_column("point_id").values.tolist() == table.point_id.tolist()
    assert store.read_column("file_name").values.tolist() == table.file_name.tolist()
    assert store.read_column("point").offsets is None
    with pytest.raises(KeyError):
        store.read_column("mask_counts")


def test_bags_come_back_whole_and_images_without_their_masks(tmp_path):
    store = write_store(tmp_path)
    bags = [bag for shard in example_shards() for bag in shard]
    for found, bag in zip(store.iter_bags(), bags, strict=True):
        assert (found.image_id, found.point_id, found.file_name) == (bag.image_id, bag.point_id, bag.file_name)
        assert found.masks.rle == bag.masks.rle
        np.testing.assert_array_equal(found.masks.box_xyxy, bag.masks.box_xyxy)
    images = {bag.image_id: (bag.file_name, bag.height, bag.width) for bag in bags}
    assert {image.image_id: (image.file_name, image.height, image.width) for image in store.iter_images()} == images


def _with_features(masks, rng):
    return dataclasses.replace(masks, feature=rng.normal(size=(len(masks), 5)).astype(np.float16))


def test_features_are_a_column_of_a_store_that_has_them(tmp_path):
    rng = np.random.default_rng(0)
    shards = [
        [dataclasses.replace(bag, masks=_with_features(bag.masks, rng)) for bag in shard] for shard in example_shards()
    ]
    store = write_store(tmp_path / "with", shards)
    features = store.read_column("mask_feature")
    bags = [bag for shard in shards for bag in shard]
    np.testing.assert_array_equal(features.values, np.concatenate([bag.masks.feature for bag in bags]))
    np.testing.assert_array_equal(features.offsets, store.read_table().offsets)
    for found, bag in zip(store.iter_bags(), bags, strict=True):
        np.testing.assert_array_equal(found.masks.feature, bag.masks.feature)
    with pytest.raises(KeyError):
        write_store(tmp_path / "without").read_column("mask_feature")
