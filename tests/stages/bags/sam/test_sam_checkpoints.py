import functools
import hashlib
import http.server
import socket
import threading

import pytest
import torch
from segment_anything import sam_model_registry

from sapnet_pipe.data.errors import UserError
from sapnet_pipe.stages.bags.sam import checkpoints
from sapnet_pipe.stages.bags.sam.adapter import load_sam
from sapnet_pipe.stages.bags.sam.checkpoints import (
    OFFICIAL,
    TINY_WEIGHTS,
    OfficialCheckpoint,
    checkpoint_path,
    checkpoint_sha256,
)
from sapnet_pipe.stages.training.checkpoint import unwrapped

CPU = torch.device("cpu")


class _Trap:
    """Unpickling this writes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.fixture(scope="module")
def hollow_vit_b(tmp_path_factory):
    """A file with the names and shapes of ViT-B and a single zero behind each: small, and of the right architecture."""
    path = tmp_path_factory.mktemp("weights") / "vit_b.pth"
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in sam_model_registry["vit_b"]().state_dict().items()}
    torch.save({name: torch.zeros(1).expand(shape) for name, shape in shapes.items()}, path)
    return path


def test_the_tiny_weights_load_and_are_small_enough_to_ship():
    load_sam("tiny", TINY_WEIGHTS, CPU)
    assert TINY_WEIGHTS.stat().st_size <= 8 << 20


def test_a_checkpoint_of_vit_b_loads_as_vit_b(hollow_vit_b):
    load_sam("vit_b", hollow_vit_b, CPU)


@pytest.mark.parametrize("model", ["tiny", "vit_l"])
def test_a_checkpoint_of_another_architecture_names_its_own(hollow_vit_b, model, monkeypatch):
    monkeypatch.setitem(sam_model_registry, "vit_l", sam_model_registry["vit_b"])  # ViT-L itself takes long to build
    with pytest.raises(UserError, match=f"this is the network vit_b, not {model}. Give the checkpoint of {model}"):
        load_sam(model, hollow_vit_b, CPU)


def _changed(path, change):
    state = torch.load(TINY_WEIGHTS, weights_only=True)
    change(state)
    torch.save(state, path)
    return path


KEY = "mask_decoder.iou_token.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(lambda state: state.pop(KEY), f"{KEY} = missing", id="a tensor missing"),
        pytest.param(lambda state: state.update(extra=torch.zeros(1)), "extra = unknown", id="a tensor too many"),
        pytest.param(lambda state: state.update({KEY: torch.zeros(2, 3)}), r"\(2, 3\), but tiny has", id="a shape"),
        pytest.param(lambda state: state.update({KEY: 3}), f"{KEY} = ", id="not a tensor"),
        pytest.param(lambda state: state[KEY].fill_(torch.nan), f"{KEY} = NaN", id="not finite"),
    ],
)
def test_weights_that_do_not_fit_name_the_tensor(tmp_path, change, message):
    with pytest.raises(UserError, match=message):
        load_sam("tiny", _changed(tmp_path / "changed.pt", change), CPU)


def test_a_truncated_checkpoint_is_refused(tmp_path):
    path = tmp_path / "cut.pt"
    path.write_bytes(TINY_WEIGHTS.read_bytes()[:100_000])
    with pytest.raises(UserError, match=r"cut\.pt: content"):
        load_sam("tiny", path, CPU)


def test_a_file_that_is_no_checkpoint_is_refused(tmp_path):
    path = tmp_path / "words.pt"
    path.write_bytes(b"not weights at all")
    with pytest.raises(UserError, match=r"words\.pt: content"):
        load_sam("tiny", path, CPU)


def test_a_pickle_that_runs_code_is_refused_and_not_run(tmp_path):
    torch.save({"weights": _Trap(tmp_path / "sprung")}, tmp_path / "trap.pt")
    with pytest.raises(UserError, match=r"trap\.pt: content"):
        load_sam("tiny", tmp_path / "trap.pt", CPU)
    assert not (tmp_path / "sprung").exists()


def test_a_missing_checkpoint_is_refused(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        checkpoint_sha256("vit_b", tmp_path / "none.pth")
    with pytest.raises(UserError, match="does not exist"):
        load_sam("tiny", tmp_path / "none.pth", CPU)


def test_a_given_checkpoint_is_known_by_its_own_bytes(tmp_path):
    path = tmp_path / "mine.pth"
    path.write_bytes(b"weights")
    assert checkpoint_sha256("vit_h", path) == hashlib.sha256(b"weights").hexdigest()
    assert checkpoint_sha256("vit_h", None) == OFFICIAL["vit_h"].sha256
    assert checkpoint_path("vit_h", path) == path


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A web server in place of the publisher's, its folder, and a cache of our own; counts what is asked of it."""
    folder = tmp_path / "published"
    folder.mkdir()
    asked = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            asked.append(self.path)

    web = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
    thread = threading.Thread(target=web.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setattr(checkpoints, "BASE_URL", f"http://127.0.0.1:{web.server_port}")
    monkeypatch.setenv("SAPNET_CACHE", str(tmp_path / "cache"))
    content = bytes(range(256)) * 9000
    (folder / "small.pth").write_bytes(content)
    official = OfficialCheckpoint("small.pth", hashlib.sha256(content).hexdigest())
    monkeypatch.setitem(OFFICIAL, "vit_b", official)
    yield folder, asked
    web.shutdown()
    web.server_close()


def test_an_official_checkpoint_is_downloaded_once_and_verified(server):
    folder, asked = server
    path = checkpoint_path("vit_b", None, quiet=True)
    assert path.read_bytes() == (folder / "small.pth").read_bytes()
    assert checkpoint_path("vit_b", None, quiet=True) == path
    assert asked == ["/small.pth"]


def test_a_damaged_copy_in_the_cache_is_downloaded_again(server):
    path = checkpoint_path("vit_b", None, quiet=True)
    path.write_bytes(path.read_bytes()[:-1])
    assert checkpoint_path("vit_b", None, quiet=True).stat().st_size == 256 * 9000


def test_a_download_that_is_not_the_published_file_is_thrown_away(server, tmp_path):
    folder, _ = server
    (folder / "small.pth").write_bytes(b"something else")
    with pytest.raises(UserError, match=r"not the published file.*--checkpoint"):
        checkpoint_path("vit_b", None, quiet=True)
    assert not list((tmp_path / "cache").glob("*"))


def test_a_file_that_the_server_lacks_is_the_users_to_fix(server):
    folder, _ = server
    (folder / "small.pth").unlink()
    with pytest.raises(UserError, match=r"could not be downloaded.*--checkpoint"):
        checkpoint_path("vit_b", None, quiet=True)


def test_a_server_that_falls_silent_is_not_waited_for_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "_TIMEOUT_SECONDS", 0.3)
    monkeypatch.setenv("SAPNET_CACHE", str(tmp_path / "cache"))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(checkpoints, "BASE_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(UserError, match=r"could not be downloaded \(timed out\)"):
            checkpoint_path("vit_h", None, quiet=True)
    assert not list((tmp_path / "cache").glob("*"))
    assert socket.getdefaulttimeout() is None


def test_without_a_network_the_message_says_what_to_give(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("SAPNET_CACHE", str(tmp_path / "cache"))
    with pytest.raises(UserError, match=r"could not be downloaded.*--checkpoint, or put it at"):
        checkpoint_path("vit_h", None, quiet=True)
    assert not list((tmp_path / "cache").glob("*"))


@pytest.mark.parametrize(
    "wrap",
    [
        pytest.param(lambda state: {"model": state, "epoch": 3}, id="model"),
        pytest.param(lambda state: {"state_dict": state}, id="state_dict"),
        pytest.param(lambda state: {"model_state": state, "optimizer_state": {}}, id="model_state"),
        pytest.param(lambda state: {f"module.sam.{key}": value for key, value in state.items()}, id="prefixes"),
    ],
)
def test_weights_that_training_tools_have_wrapped_are_unwrapped(wrap):
    state = torch.load(TINY_WEIGHTS, weights_only=True)
    found = unwrapped(wrap(state))
    assert list(found) == list(state)
    assert all(found[key] is state[key] for key in state)
    assert unwrapped({}) == {}
