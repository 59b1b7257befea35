import dataclasses
import json

import numpy as np
import pytest

from sapnet_pipe.data.bag_store.masks import MaskColumns
from sapnet_pipe.data.bag_store.schema import Bag
from sapnet_pipe.data.bag_store.writer import open_writer
from sapnet_pipe.data.coco.instances import Category
from sapnet_pipe.data.coco.masks import encode_masks
from sapnet_pipe.data.errors import UserError
from sapnet_pipe.stages.bags import run as stage
from sapnet_pipe.stages.bags.run import run
from sapnet_pipe.stages.bags.verify import verify


@pytest.fixture
def store(tmp_path, points, images_dir, config, brightness_sam):
    run(points, images_dir, tmp_path / "bags", config, quiet=True)
    return tmp_path / "bags"


def test_a_whole_store_verifies_and_is_counted(store):
    report = verify(store, quiet=True)
    assert (report.shards, report.images, report.points) == (3, 6, 12)
    assert report.bytes == sum(path.stat().st_size for path in store.glob("*.parquet"))
    assert json.loads(json.dumps(report.to_dict()))["masks"] == report.masks > 12


@pytest.mark.parametrize("place", [4, 200, -900, -5])
def test_a_single_flipped_bit_is_found(store, place):
    path = store / "bags-00001.parquet"
    content = bytearray(path.read_bytes())
    content[place] ^= 4
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"bags-00001\.parquet: sha256 = .*Move that shard away"):
        verify(store, quiet=True)


def test_a_missing_shard_is_found_and_made_again(store, points, images_dir, config):
    before = (store / "bags-00002.parquet").read_bytes()
    (store / "bags-00002.parquet").unlink()
    with pytest.raises(UserError, match=r"bags-00002\.parquet: shard = missing"):
        verify(store, quiet=True)
    assert run(points, images_dir, store, config, quiet=True).shards_made == 1
    assert (store / "bags-00002.parquet").read_bytes() == before
    verify(store, quiet=True)


def test_a_shard_that_the_manifest_does_not_list_is_found(store):
    (store / "bags-00009.parquet").write_bytes((store / "bags-00000.parquet").read_bytes())
    with pytest.raises(UserError, match=r"bags-00009\.parquet: shard.*does not list"):
        verify(store, quiet=True)


def test_a_shard_of_another_store_is_found(tmp_path, store, points, images_dir, config):
    run(points, images_dir, tmp_path / "other", config.model_copy(update={"recipe": "multimask"}), quiet=True)
    (store / "bags-00000.parquet").write_bytes((tmp_path / "other" / "bags-00000.parquet").read_bytes())
    with pytest.raises(UserError, match=r"bags-00000\.parquet: sha256"):
        verify(store, quiet=True)


def test_further_faults_are_counted(store):
    for path in store.glob("*.parquet"):
        path.unlink()
    with pytest.raises(UserError, match=r"bags-00000.*and 2 more faults"):
        verify(store, quiet=True)


HEIGHT, WIDTH = 12, 16


def _bag(image_id=1, point_id=1, **changes) -> Bag:
    masks = np.zeros((2, HEIGHT, WIDTH), bool)
    masks[0, 2:5, 3:9], masks[1, 1:9, 2:12] = True, True
    columns = MaskColumns.from_rle(
        encode_masks(masks),
        HEIGHT,
        WIDTH,
        score=np.array([0.5, 0.6], np.float32),
        stability=np.array([0.9, 1.0], np.float32),
        source=np.array([1, 2], np.int8),
    )
    of_masks = {name: changes.pop(name) for name in list(changes) if hasattr(columns, name)}
    bag = Bag(
        image_id=image_id, file_name="a.png", height=HEIGHT, width=WIDTH, point_id=point_id, category_id=3,
        point_xy=(4.0, 3.0), masks=dataclasses.replace(columns, **of_masks),
    )  # fmt: skip
    return dataclasses.replace(bag, **changes)


def _write(folder, shards, points, config):
    """A store with right checksums around whatever the bags hold."""
    identity = stage._identity(points, config)
    with open_writer(folder, identity, (Category(3, "egg"),), len(shards)) as writer:
        for index, bags in enumerate(shards):
            writer.write_shard(index, bags, {})
        writer.finish({})


BROKEN_RLE = [encode_masks(np.ones((1, HEIGHT, WIDTH + 1), bool))[0]] * 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"area": np.array([18, 81], np.int32)}, r"row 1\.mask_area = point 2, not the area", id="area"),
        pytest.param(
            {"box_xyxy": np.full((2, 4), [1, 1, 2, 2], np.float32)}, r"row 1\.mask_box = .*not the box", id="box"
        ),
        pytest.param({"box_xyxy": np.zeros((2, 4), np.float32)}, r"row 1\.mask_box = .*not a box within", id="no box"),
        pytest.param({"rle": BROKEN_RLE}, r"row 1\.mask_counts = point 2, an RLE that does not", id="RLE"),
        pytest.param({"rle": [b"", b"\xff"]}, r"row 1\.mask_counts = point 2, an RLE that does not", id="no RLE"),
        pytest.param({"score": np.array([0.5, np.nan], np.float32)}, r"row 1\.mask_score", id="score"),
        pytest.param({"stability": np.array([0.5, 1.5], np.float32)}, r"row 1\.mask_stability", id="stability"),
        pytest.param({"source": np.array([2, 2], np.int8)}, r"row 1\.mask_source = .*out of order", id="source twice"),
        pytest.param({"source": np.array([-2, 6], np.int8)}, r"row 1\.mask_source = .*not a prompt", id="source"),
        pytest.param({"category_id": 4}, r"row 1\.category_id = point 2", id="category"),
        pytest.param({"point_xy": (4.0, 12.0)}, r"row 1\.point = point 2, outside its image", id="point"),
        pytest.param({"point_xy": (np.nan, 1.0)}, r"row 1\.point = point 2, outside its image", id="point NaN"),
    ],
)
def test_wrong_values_under_right_checksums_are_found(tmp_path, points, config, changes, message):
    _write(tmp_path / "bags", [[_bag(), _bag(point_id=2, **changes)], [_bag(image_id=2, point_id=3)]], points, config)
    with pytest.raises(UserError, match=message):
        verify(tmp_path / "bags", quiet=True)


def test_an_image_that_straddles_two_shards_is_found(tmp_path, points, config):
    _write(tmp_path / "bags", [[_bag()], [_bag(point_id=2)]], points, config)
    with pytest.raises(UserError, match=r"bags-00001\.parquet: row 0\.image_id = 1, but the shard before ends with"):
        verify(tmp_path / "bags", quiet=True)


def test_an_unfinished_store_is_not_verified(store):
    (store / "manifest.json").rename(store / "manifest.partial.json")
    with pytest.raises(UserError, match="not finished"):
        verify(store, quiet=True)
