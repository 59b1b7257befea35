"""Bag stores behind URLs: in fsspec's memory always, on an S3-compatible server where moto and s3fs are installed."""

import socket
import threading
import time
import uuid
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import numpy as np
import pytest

from sapnet_pipe.data.bag_store import filesystem as bag_filesystem
from sapnet_pipe.data.bag_store.derived import merge_stores
from sapnet_pipe.data.bag_store.filesystem import LocalFolder, RemoteFolder, parse_location, store_folder
from sapnet_pipe.data.bag_store.store import BagStore
from sapnet_pipe.data.bag_store.writer import open_writer
from sapnet_pipe.data.errors import UserError
from sapnet_pipe.stages.bags.inspect import inspect
from sapnet_pipe.stages.bags.verify import verify
from tests.data.bag_store.bag_examples import CATEGORIES, example_shards, identity, table_columns, write_store


@pytest.fixture(params=["memory", "s3"])
def url(request):
    """The URL of an empty place."""
    if request.param == "s3":
        return request.getfixturevalue("bucket").url
    fsspec.filesystem("memory").store.clear()
    return "memory://place"


@pytest.fixture
def bucket(monkeypatch):
    """A bucket on a server of this process that can be stopped and started."""
    reason = "moto and s3fs are not installed: run `make test-scale`"
    pytest.importorskip("s3fs", reason=reason)
    pytest.importorskip("moto.server", reason=reason)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    fsspec.filesystem("s3").clear_instance_cache()
    server = _Server(port)
    server.start()
    fsspec.filesystem("s3").mkdir(server.name)
    yield server
    server.stop()
    fsspec.filesystem("s3").clear_instance_cache()


class _Server:
    """What is stored outlives a stop, as it does on a real server."""

    def __init__(self, port):
        self.port, self._server = port, None
        self.name = f"bucket-{uuid.uuid4().hex}"
        self.url = f"s3://{self.name}/store"

    def start(self):
        from moto.server import ThreadedMotoServer

        self._server = ThreadedMotoServer(port=self.port, verbose=False)
        self._server.start()

    def stop(self):
        if self._server is not None:
            self._server.stop()
            self._server = None


def _bytes_of(location):
    folder = store_folder(location)
    return {name: folder.read(name) for name in folder.names()}


def test_a_store_behind_a_url_has_the_bytes_of_one_on_a_disk(tmp_path, url):
    local = write_store(tmp_path / "store")
    remote = write_store(url)
    assert _bytes_of(url) == _bytes_of(tmp_path / "store")
    there = table_columns(remote.read_table())
    for name, values in table_columns(local.read_table()).items():
        np.testing.assert_array_equal(there[name], values, err_msg=name)
    assert dict(remote.iter_masks()) == dict(local.iter_masks())
    assert remote.read_masks(20) == local.read_masks(20)
    assert verify(url, quiet=True).points == inspect(url, quiet=True).points == local.manifest.points


def test_an_interrupted_store_behind_a_url_goes_on_where_it_stood(tmp_path, url):
    write_store(tmp_path / "whole")
    shards = example_shards()
    with open_writer(url, identity(), CATEGORIES, 3) as writer:
        writer.write_shard(1, shards[1], {"empty_masks": 1})
    assert store_folder(url).names() == ["bags-00001.parquet", "manifest.partial.json"]
    with open_writer(url, identity(), CATEGORIES, 3) as writer:
        assert writer.missing == [0, 2]
    write_store(url)
    assert _bytes_of(url) == _bytes_of(tmp_path / "whole")


def test_a_run_behind_a_url_that_fails_before_its_first_shard_leaves_nothing(url):
    with pytest.raises(RuntimeError), open_writer(url, identity(), CATEGORIES, 3):
        raise RuntimeError
    assert store_folder(url).names() == []


def test_another_run_behind_a_url_is_refused(url):
    write_store(url)
    with pytest.raises(UserError, match="never mix"), open_writer(url, identity(recipe="x"), CATEGORIES, 3):
        pass


def test_parts_behind_urls_merge_onto_a_disk(tmp_path, url):
    write_store(tmp_path / "whole")
    shards = example_shards()
    for name, wanted in (("a", [0, 2]), ("b", [1])):
        with open_writer(f"{url}/{name}", identity(), CATEGORIES, 3, wanted) as writer:
            for index in writer.missing:
                writer.write_shard(index, shards[index], {"empty_masks": 1})
            writer.finish({"crowd": 2})
    merge_stores([f"{url}/a", f"{url}/b"], tmp_path / "merged", quiet=True)
    assert _bytes_of(tmp_path / "merged") == _bytes_of(tmp_path / "whole")


def test_a_damaged_shard_behind_a_url_is_named(url):
    write_store(url)
    folder = store_folder(url)
    content = folder.read("bags-00001.parquet")
    folder.write("bags-00001.parquet", content[:50] + b"x" + content[51:])
    with pytest.raises(UserError, match=rf"{url}/bags-00001.parquet: sha256"):
        verify(url, quiet=True)


def test_what_is_missing_behind_a_url_is_named(url):
    with pytest.raises(UserError, match=r"manifest.json = missing.*generate-bags"):
        BagStore.open(url)


def test_a_file_system_without_atomic_writes_gets_them_by_renaming(monkeypatch):
    folder = RemoteFolder("memory://renamed")
    monkeypatch.setattr(folder, "_atomic_put", False)
    folder.write("a.parquet", b"whole")
    assert (folder.names(), folder.read("a.parquet")) == (["a.parquet"], b"whole")


def test_what_a_killed_writer_left_half_done_is_removed():
    folder = RemoteFolder("memory://leftovers")
    folder.write(".bags-00000.parquet.12345678.tmp", b"half")
    with folder.held():
        assert folder.names() == []


@pytest.mark.parametrize("text", ["bags", "/data/bags", "file:///data/bags", "local:///data/bags"])
def test_paths_and_file_urls_are_local(text):
    assert isinstance(store_folder(text), LocalFolder)
    assert Path(parse_location(text)).as_posix() in ("bags", "/data/bags")


def test_an_unknown_protocol_is_refused():
    with pytest.raises(UserError, match=r"location = nope://x, which cannot be opened.*sapnet-pipe\[s3\]"):
        store_folder("nope://x")


@pytest.mark.parametrize("text", ["s3://", "http://", "://x", "zip::", "file://", "zip://a::"])
def test_an_address_that_names_no_place_is_refused(text):
    with pytest.raises(UserError, match="which is no whole address"):
        store_folder(text)


@pytest.mark.parametrize("location", ["a\0b", "memory://a\0b", Path("a\0b")])
def test_a_null_byte_is_refused(location):
    with pytest.raises(UserError, match="null byte"):
        store_folder(location)


def test_an_address_that_its_protocol_cannot_read_is_refused_at_once(waits):
    with pytest.raises(UserError, match="cannot be used"):
        store_folder("http:///x").names()
    assert waits == []


def test_a_store_of_a_web_server_is_read_only(tmp_path, waits):
    write_store(tmp_path / "store")
    handler = partial(_Quiet, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        place = f"http://127.0.0.1:{server.server_port}"
        assert BagStore.open(f"{place}/store").manifest.points
        with (
            pytest.raises(UserError, match="can be read but not written"),
            open_writer(f"{place}/new", identity(), CATEGORIES, 3),
        ):
            pass
        with pytest.raises(UserError, match=r"which the server refuses .*501"):
            store_folder(place).write("a", b"")
        server.shutdown()
        thread.join()
    assert waits == []


class _Quiet(SimpleHTTPRequestHandler):
    """Serves files and logs nothing."""

    def log_message(self, *_):
        pass


@pytest.mark.parametrize("error", [FileNotFoundError("gone"), FileNotFoundError("The specified bucket does not exist")])
def test_a_missing_bucket_is_named_by_the_first_write(waits, monkeypatch, error):
    folder = RemoteFolder("memory://bucket/x")
    monkeypatch.setattr(folder._fs, "pipe_file", _Flaky(error))
    with pytest.raises(UserError, match="memory://bucket/x, whose bucket or container does not exist"):
        folder.write("a", b"")
    assert waits == []


def test_a_missing_bucket_is_named_where_a_store_is_read(bucket):
    with pytest.raises(UserError, match="whose bucket or container does not exist"):
        BagStore.open("s3://no-such-bucket-here/store")


def test_a_file_system_that_cannot_write_is_said_to_be_read_only(waits, monkeypatch):
    folder = RemoteFolder("memory://x")
    monkeypatch.setattr(folder._fs, "pipe_file", _Flaky(NotImplementedError()))
    with pytest.raises(UserError, match="can be read but not written"):
        folder.write("a", b"")
    assert waits == []


def test_a_patience_that_is_no_number_is_refused(monkeypatch):
    monkeypatch.setenv(bag_filesystem.PATIENCE, "two")
    with pytest.raises(UserError, match=f"{bag_filesystem.PATIENCE} = two, which is not a number of seconds"):
        RemoteFolder("memory://x").names()


class _Flaky:
    """Fails so many times, then answers."""

    def __init__(self, *errors):
        self.errors, self.calls = list(errors), 0

    def __call__(self, *_):
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return b"content"


@pytest.fixture
def waits(monkeypatch):
    """No time passes: the waits are noted instead, and the clock goes by them."""
    noted: list[float] = []
    monkeypatch.setattr(bag_filesystem.time, "sleep", noted.append)
    monkeypatch.setattr(bag_filesystem.time, "monotonic", lambda: float(sum(noted)))
    return noted


def test_a_silent_server_is_tried_again_with_growing_waits(waits, monkeypatch):
    folder, flaky = RemoteFolder("memory://x"), _Flaky(ConnectionError(), TimeoutError(), OSError(5, "reset"))
    monkeypatch.setattr(folder._fs, "cat_file", flaky)
    assert folder.read("a") == b"content"
    assert waits == [0.5, 1.0, 2.0]


def test_patience_ends_in_one_line_that_says_how_to_go_on(waits, monkeypatch):
    folder = RemoteFolder("memory://x")
    monkeypatch.setattr(folder._fs, "cat_file", _Flaky(*[ConnectionError("refused")] * 99))
    with pytest.raises(
        UserError, match=r"memory://x/a, which did not answer for 1\d\d s .*refused.*same command again"
    ):
        folder.read("a")
    assert 100 < sum(waits) <= 120


class NoCredentialsError(Exception):
    """As botocore names it."""


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (PermissionError("403"), "may not be read"),
        (NoCredentialsError("none"), "without credentials"),
        (OSError(22, "The specified bucket is not valid"), "cannot hold a store .*bucket"),
    ],
)
def test_what_waiting_does_not_fix_is_not_tried_again(waits, monkeypatch, error, message):
    folder = RemoteFolder("memory://x")
    monkeypatch.setattr(folder._fs, "cat_file", _Flaky(error))
    with pytest.raises(UserError, match=message):
        folder.read("a")
    assert waits == []


def test_a_server_stopped_in_the_middle_and_started_again_costs_only_time(tmp_path, bucket):
    write_store(tmp_path / "whole")
    shards = example_shards()
    with open_writer(bucket.url, identity(), CATEGORIES, 3) as writer:
        writer.write_shard(0, shards[0], {"empty_masks": 1})
        bucket.stop()
        starter = threading.Timer(3, bucket.start)
        starter.start()
        for index in (1, 2):
            writer.write_shard(index, shards[index], {"empty_masks": 1})
        starter.join()
        writer.finish({"crowd": 2})
    assert _bytes_of(bucket.url) == _bytes_of(tmp_path / "whole")


def test_a_server_that_stays_away_ends_the_run_which_goes_on_later(tmp_path, bucket, monkeypatch):
    write_store(tmp_path / "whole")
    monkeypatch.setenv(bag_filesystem.PATIENCE, "1")
    started = time.monotonic()
    with open_writer(bucket.url, identity(), CATEGORIES, 3) as writer:
        writer.write_shard(0, example_shards()[0], {"empty_masks": 1})
    bucket.stop()
    with pytest.raises(UserError, match=r"did not answer"):
        write_store(bucket.url)
    assert time.monotonic() - started < 60
    bucket.start()
    assert store_folder(bucket.url).names() == ["bags-00000.parquet", "manifest.partial.json"]
    write_store(bucket.url)
    assert _bytes_of(bucket.url) == _bytes_of(tmp_path / "whole")
