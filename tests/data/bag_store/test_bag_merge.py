import json

import pytest

from sapnet_pipe.data.bag_store.derived import merge_stores
from sapnet_pipe.data.bag_store.filesystem import store_folder
from sapnet_pipe.data.bag_store.manifest import read_manifest
from sapnet_pipe.data.bag_store.store import BagStore
from sapnet_pipe.data.bag_store.writer import open_writer
from sapnet_pipe.data.errors import UserError
from tests.data.bag_store.bag_examples import CATEGORIES, example_shards, identity, write_store


def _write_part(folder, wanted, **changes):
    shards = example_shards()
    with open_writer(folder, identity(**changes), CATEGORIES, len(shards), wanted) as writer:
        for index in writer.missing:
            writer.write_shard(index, shards[index], {"empty_masks": 1})
        if writer.manifest is None:
            writer.finish({"crowd": 2})
    return folder


def _bytes_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_parts_merge_into_the_bytes_of_an_undivided_run(tmp_path):
    write_store(tmp_path / "whole")
    parts = [_write_part(tmp_path / "a", [0, 2]), _write_part(tmp_path / "b", [1])]
    summary = merge_stores(parts, tmp_path / "merged", quiet=True)
    assert _bytes_of(tmp_path / "merged") == _bytes_of(tmp_path / "whole")
    assert (summary.parts, summary.shards, summary.shards_made, summary.repeated_shards) == (2, 3, 3, 0)


def test_a_part_says_so_and_is_not_taken_for_a_store(tmp_path):
    part = _write_part(tmp_path / "a", [0, 2])
    manifest = read_manifest(store_folder(part))
    assert manifest.is_part
    assert json.loads((part / "manifest.json").read_text())["status"] == "part"
    with pytest.raises(UserError, match=r"2 shards, but the store has 3: this is a part.*bags merge"):
        BagStore.open(part)
    assert BagStore.open(part, allow_part=True).manifest.points == manifest.points


def test_the_rest_made_in_the_folder_of_a_part_completes_it(tmp_path):
    write_store(tmp_path / "whole")
    _write_part(tmp_path / "a", [1])
    _write_part(tmp_path / "a", [0])
    write_store(tmp_path / "a")
    assert _bytes_of(tmp_path / "a") == _bytes_of(tmp_path / "whole")


def test_a_part_run_again_is_complete_and_left_as_it_is(tmp_path):
    before = _bytes_of(_write_part(tmp_path / "a", [1]))
    with open_writer(tmp_path / "a", identity(), CATEGORIES, 3, [1]) as writer:
        assert writer.missing == []
        assert writer.manifest is not None
    assert _bytes_of(tmp_path / "a") == before


def test_a_shard_in_two_parts_is_taken_once_if_its_bytes_are_equal(tmp_path):
    write_store(tmp_path / "whole")
    parts = [_write_part(tmp_path / "a", [0, 1]), _write_part(tmp_path / "b", [1, 2])]
    assert merge_stores(parts, tmp_path / "merged", quiet=True).repeated_shards == 1
    assert _bytes_of(tmp_path / "merged") == _bytes_of(tmp_path / "whole")


def test_an_interrupted_merge_goes_on_where_it_stood(tmp_path):
    write_store(tmp_path / "whole")
    parts = [_write_part(tmp_path / "a", [0, 2]), _write_part(tmp_path / "b", [1])]
    damaged = tmp_path / "a" / "bags-00002.parquet"
    content = damaged.read_bytes()
    damaged.write_bytes(content[:50] + b"x" + content[51:])
    with pytest.raises(UserError, match=r"bags-00002.parquet: sha256 = .*but the manifest says"):
        merge_stores(parts, tmp_path / "merged", quiet=True)
    damaged.write_bytes(content)
    assert merge_stores(parts, tmp_path / "merged", quiet=True).shards_made == 1
    assert _bytes_of(tmp_path / "merged") == _bytes_of(tmp_path / "whole")


def test_missing_shards_are_named(tmp_path):
    with pytest.raises(UserError, match=r"2 of 3, shards .* in none of the parts, first bags-00001.*part=K/N"):
        merge_stores([_write_part(tmp_path / "a", [0])], tmp_path / "merged", quiet=True)
    assert not (tmp_path / "merged").exists()


def test_parts_of_different_runs_are_refused_and_the_field_named(tmp_path):
    parts = [_write_part(tmp_path / "a", [0, 1]), _write_part(tmp_path / "b", [2], points_sha256="9" * 64)]
    with pytest.raises(UserError, match=r"b: points_sha256 = 9+, but .*a was made with another"):
        merge_stores(parts, tmp_path / "merged", quiet=True)


def test_two_parts_with_other_bytes_for_one_shard_are_refused(tmp_path):
    parts = [_write_part(tmp_path / "a", [0, 1, 2])]
    shards = example_shards()
    with open_writer(tmp_path / "b", identity(), CATEGORIES, 3, [2]) as writer:
        writer.write_shard(2, shards[2][:1], {})
        writer.finish({"crowd": 2})
    with pytest.raises(UserError, match=r"but .*a has other bytes for it"):
        merge_stores([*parts, tmp_path / "b"], tmp_path / "merged", quiet=True)


def test_a_part_that_is_not_finished_is_refused(tmp_path):
    with open_writer(tmp_path / "a", identity(), CATEGORIES, 3, [0]) as writer:
        writer.write_shard(0, example_shards()[0], {})
    with pytest.raises(UserError, match="not finished"):
        merge_stores([tmp_path / "a"], tmp_path / "merged", quiet=True)


def test_a_part_is_not_the_place_to_merge_into(tmp_path):
    parts = [_write_part(tmp_path / "a", [0, 2]), _write_part(tmp_path / "b", [1])]
    before = _bytes_of(parts[0])
    with pytest.raises(UserError, match=r"--out = .*one of the parts"):
        merge_stores(parts, tmp_path / "b" / ".." / "a", quiet=True)
    assert _bytes_of(parts[0]) == before
