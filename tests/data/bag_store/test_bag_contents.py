"""Stores whose checksums are right and whose contents are not: every reader says so in one line."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sapnet_pipe.data.coco.masks import encode_mask
from sapnet_pipe.data.errors import UserError
from tests.data.bag_store.bag_examples import HEIGHT, WIDTH, make_bag, write_store


def _store(folder, **changes):
    """Two bags, of which the second has other values."""
    whole, other = make_bag(1, 1), make_bag(2, 2)
    for name, value in changes.items():
        object.__setattr__(other if hasattr(other, name) else other.masks, name, value)
    return write_store(folder, [[whole], [other]])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"height": 0}, "height = point 2, an image without pixels", id="no height"),
        pytest.param({"point_xy": (np.nan, 1.0)}, "point = point 2, outside its image", id="point"),
        pytest.param({"category_id": 5}, "category_id = point 2, not a category of the manifest", id="category"),
        pytest.param({"score": np.full(3, np.nan, np.float32)}, "mask_score = point 2, not a finite", id="score"),
        pytest.param({"box_xyxy": np.full((3, 4), np.nan, np.float32)}, "mask_box = point 2, not a box", id="box"),
        pytest.param({"area": np.zeros(3, np.int32)}, "mask_area = point 2, not the area", id="area"),
        pytest.param({"source": np.array([2, 2, 2], np.int8)}, "mask_source = point 2, out of order", id="source"),
    ],
)
def test_a_wrong_value_is_named_with_its_shard_and_row(tmp_path, changes, message):
    store = _store(tmp_path, **changes)
    with pytest.raises(UserError, match=rf"bags-00001\.parquet: row 0\.{message}"):
        store.read_table()
    with pytest.raises(UserError, match=r"bags-00001\.parquet: .*row 0\."):
        list(store.iter_bags())


@pytest.mark.parametrize(
    "rle",
    [
        pytest.param(b"o\0" + b"1" * 100, id="number that runs past the end"),
        pytest.param(b"1", id="too few pixels"),
        pytest.param(encode_mask(np.ones((HEIGHT, WIDTH + 1), bool)), id="too many pixels"),
    ],
)
def test_a_broken_mask_is_an_error_of_its_store(tmp_path, rle):
    store = _store(tmp_path, rle=[rle] * 3)
    with pytest.raises(UserError, match="mask_counts = point 2, a mask that cannot be read"):
        list(store.iter_bags())
    with pytest.raises(UserError, match="mask_counts = point 2, a mask that cannot be read"):
        store.check_masks(2, store.read_masks(2)[2], HEIGHT, WIDTH)


def test_fewer_masks_than_boxes_are_noticed_as_masks_are_read(tmp_path):
    store = _store(tmp_path)
    path = tmp_path / "bags-00001.parquet"
    table = pq.read_table(path)
    place = table.schema.names.index("mask_counts")
    short = pa.array([rles[:1] for rles in table["mask_counts"].to_pylist()], table.schema.field(place).type)
    pq.write_table(table.set_column(place, table.schema.field(place), short), path)
    with pytest.raises(UserError, match=r"bags-00001\.parquet: .*not of one length"):
        list(store.iter_masks())
