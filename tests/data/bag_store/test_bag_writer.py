import subprocess
import sys

import pyarrow as pa
import pytest

from sapnet_pipe.data.bag_store.store import BagStore
from sapnet_pipe.data.bag_store.writer import open_writer
from sapnet_pipe.data.errors import UserError
from tests.data.bag_store.bag_examples import CATEGORIES, example_shards, identity, write_store
from tests.places import child_environment


def _bytes_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def _write_only(folder, indices, **changes):
    shards = example_shards()
    with open_writer(folder, identity(**changes), CATEGORIES, len(shards)) as writer:
        for index in indices:
            writer.write_shard(index, shards[index], {"empty_masks": 1})


def test_a_restart_makes_only_what_is_missing_and_ends_with_the_same_bytes(tmp_path):
    write_store(tmp_path / "whole")
    _write_only(tmp_path / "cut", [1])
    with open_writer(tmp_path / "cut", identity(), CATEGORIES, 3) as writer:
        assert writer.missing == [0, 2]
    write_store(tmp_path / "cut")
    assert _bytes_of(tmp_path / "cut") == _bytes_of(tmp_path / "whole")


def test_a_finished_store_misses_nothing_and_keeps_its_manifest(tmp_path):
    write_store(tmp_path)
    before = _bytes_of(tmp_path)
    with open_writer(tmp_path, identity(), CATEGORIES, 3) as writer:
        assert writer.missing == []
        assert writer.manifest == BagStore.open(tmp_path).manifest
    assert _bytes_of(tmp_path) == before


@pytest.mark.parametrize("damage", ["missing", "cut short"])
def test_a_finished_store_that_lost_a_shard_gets_it_back(tmp_path, damage):
    write_store(tmp_path)
    before = _bytes_of(tmp_path)
    path = tmp_path / "bags-00002.parquet"
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(before[path.name][:-9])
    with open_writer(tmp_path, identity(), CATEGORIES, 3) as writer:
        assert writer.missing == [2]
    write_store(tmp_path)
    aside = {} if damage == "missing" else {"bags-00002.parquet.damaged": before[path.name][:-9]}
    assert _bytes_of(tmp_path) == before | aside


def test_an_unreadable_shard_of_an_interrupted_run_is_set_aside_and_made_again(tmp_path):
    _write_only(tmp_path, [0, 1])
    for content in (b"PAR1 nothing", b"PAR1 nothing either"):
        (tmp_path / "bags-00001.parquet").write_bytes(content)
        with open_writer(tmp_path, identity(), CATEGORIES, 3) as writer:
            assert writer.missing == [1, 2]
    names = ["bags-00001.parquet.damaged", "bags-00001.parquet.damaged-2"]
    assert [(tmp_path / name).read_bytes() for name in names] == [b"PAR1 nothing", b"PAR1 nothing either"]
    assert writer.set_aside == [str(tmp_path / names[1])]


@pytest.mark.parametrize(
    "error", [pa.ArrowMemoryError("realloc of size 64 failed"), OSError("ZSTD: Allocation error : not enough memory")]
)
def test_want_of_memory_is_no_damage(tmp_path, monkeypatch, error):
    write_store(tmp_path)
    (tmp_path / "bags-00002.parquet").unlink()
    before = _bytes_of(tmp_path)

    def fails(*_, **__):
        raise error

    monkeypatch.setattr("pyarrow.parquet.read_table", fails)
    with pytest.raises(MemoryError), open_writer(tmp_path, identity(), CATEGORIES, 3):
        pass
    assert _bytes_of(tmp_path) == before


def test_a_store_that_lost_its_manifest_is_finished_from_its_shards(tmp_path):
    write_store(tmp_path)
    before = _bytes_of(tmp_path)
    (tmp_path / "manifest.json").unlink()
    with pytest.raises(UserError, match="Run generate-bags again with the same settings"):
        BagStore.open(tmp_path)
    write_store(tmp_path)
    assert _bytes_of(tmp_path) == before


def test_a_file_that_only_begins_like_a_shard_is_left_alone(tmp_path):
    _write_only(tmp_path, [0])
    (tmp_path / "bags-of-mine.parquet").write_bytes(b"mine")
    write_store(tmp_path)
    assert (tmp_path / "bags-of-mine.parquet").read_bytes() == b"mine"


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize(
    ("field", "value"),
    [("recipe", "multimask"), ("shard_images", 9), ("points_sha256", "9" * 64), ("checkpoint_sha256", "8" * 64)],
)
def test_another_run_is_refused_and_the_field_named(tmp_path, finished, field, value):
    if finished:
        write_store(tmp_path)
    else:
        _write_only(tmp_path, [0])
    before = _bytes_of(tmp_path)
    with (
        pytest.raises(UserError, match=f"{field} = .*two different runs never mix"),
        open_writer(tmp_path, identity(**{field: value}), CATEGORIES, 3),
    ):
        pass
    assert _bytes_of(tmp_path) == before


def test_a_shard_of_another_run_is_refused_by_a_restart(tmp_path):
    _write_only(tmp_path / "a", [0])
    _write_only(tmp_path / "b", [1], precision="bfloat16")
    (tmp_path / "b" / "bags-00000.parquet").write_bytes((tmp_path / "a" / "bags-00000.parquet").read_bytes())
    with (
        pytest.raises(UserError, match="a shard of another store"),
        open_writer(tmp_path / "b", identity(precision="bfloat16"), CATEGORIES, 3),
    ):
        pass


def test_a_folder_of_other_files_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("do not touch")
    with pytest.raises(UserError, match=r"thesis\.tex"), open_writer(tmp_path, identity(), CATEGORIES, 3):
        pass
    assert _bytes_of(tmp_path) == {"thesis.tex": b"do not touch"}


def test_temporary_files_of_a_killed_run_are_removed(tmp_path):
    _write_only(tmp_path, [0])
    (tmp_path / ".bags-00001.parquet.abc_1234.tmp").write_bytes(b"half")
    (tmp_path / ".manifest.json.abc_1234.tmp").write_bytes(b"half")
    (tmp_path / ".lock").write_bytes(b"")
    write_store(tmp_path)
    assert sorted(_bytes_of(tmp_path)) == [*(f"bags-0000{index}.parquet" for index in range(3)), "manifest.json"]


def test_a_run_that_fails_before_its_first_shard_leaves_no_folder(tmp_path):
    with pytest.raises(RuntimeError), open_writer(tmp_path / "new", identity(), CATEGORIES, 3):
        raise RuntimeError
    assert not (tmp_path / "new").exists()


def test_a_run_that_fails_later_leaves_what_it_finished(tmp_path):
    _write_only(tmp_path / "new", [0])
    with pytest.raises(RuntimeError), open_writer(tmp_path / "new", identity(), CATEGORIES, 3):
        raise RuntimeError
    assert sorted(_bytes_of(tmp_path / "new")) == ["bags-00000.parquet", "manifest.partial.json"]


_HOLD = """
import sys
from pathlib import Path
from sapnet_pipe.data.bag_store.filesystem import LocalFolder
with LocalFolder(Path(sys.argv[1])).held():
    sys.stdout.write("locked\\n")
    sys.stdout.flush()
    sys.stdin.read()
"""


def test_a_second_process_is_refused_and_the_system_frees_the_lock_of_a_killed_one(tmp_path):
    command = [sys.executable, "-c", _HOLD, str(tmp_path)]
    holder = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=child_environment(),
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"locked\n"
    found = pytest.raises(UserError, match=rf"another process \({holder.pid}\) is writing")
    with found, open_writer(tmp_path, identity(), CATEGORIES, 3):
        pass
    holder.kill()
    holder.communicate()
    write_store(tmp_path)


def test_a_folder_under_a_file_cannot_be_made(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with (
        pytest.raises(UserError, match="is a file, not a folder"),
        open_writer(tmp_path / "file" / "store", identity(), CATEGORIES, 3),
    ):
        pass


def test_unsorted_or_repeated_rows_are_a_programming_error(tmp_path):
    shard = example_shards()[0]
    with open_writer(tmp_path, identity(), CATEGORIES, 1) as writer:
        for bags in (shard[::-1], [shard[0], shard[0]], []):
            with pytest.raises(ValueError, match="shard 0"):
                writer.write_shard(0, bags, {})
        with pytest.raises(ValueError, match="not written yet"):
            writer.finish({})
