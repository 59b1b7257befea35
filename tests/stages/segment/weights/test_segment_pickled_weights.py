"""Detectron2's .pkl backbones: their names, their pixels, their strides, and nothing in them that could run."""

import os
import pickle
import tracemalloc
from collections import OrderedDict
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import conv2d

from sapnet_pipe.data.errors import UserError
from sapnet_pipe.stages.segment.config import SegmentBackboneConfig
from sapnet_pipe.stages.segment.network import build_solov2
from sapnet_pipe.stages.segment.pixel_format import DETECTRON2_PIXELS, OUR_PIXELS
from sapnet_pipe.stages.segment.weights.checkpoint_keys import to_detectron2
from sapnet_pipe.stages.segment.weights.pickled_weights import read_arrays, read_pickled_backbone
from tests.stages.segment.segment_scenes import tiny_config
from tests.stages.segment.weights.pickled_backbones import caffe2_names, pickled

R50 = {"name": "resnet50", "width": 16, "fpn_channels": 16}


@pytest.fixture(scope="module")
def trained() -> dict[str, torch.Tensor]:
    """A narrow ResNet-50 with lively statistics, under Detectron2's names and for its pixels."""
    backbone = SegmentBackboneConfig(**R50, weights="none", norm="bn", stride_in_1x1=True)
    torch.manual_seed(1)
    model, _ = build_solov2(backbone, tiny_config().head, 2, warn=pytest.fail, load=True)
    state = to_detectron2(model.state_dict())
    return {
        key.removeprefix("backbone.bottom_up."): torch.rand_like(value) + 0.5 if ".norm." in key else value
        for key, value in state.items()
        if key.startswith("backbone.bottom_up.")
    }


def _built(weights: str, **settings: Any) -> tuple[dict[str, torch.Tensor], SegmentBackboneConfig, list[str]]:
    said: list[str] = []
    backbone = SegmentBackboneConfig(**R50, weights=weights, **settings)
    model, resolved = build_solov2(backbone, tiny_config().head, 2, warn=said.append, load=True)
    return to_detectron2(model.state_dict()), resolved, said


def test_msra_weights_load_with_their_strides_and_pixels(tmp_path, trained):
    state, resolved, said = _built(pickled(tmp_path / "R-50.pkl", caffe2_names(trained)))
    for key, value in trained.items():
        torch.testing.assert_close(state[f"backbone.bottom_up.{key}"], value, rtol=1e-5, atol=1e-7)
    assert resolved.stride_in_1x1
    assert (resolved.norm, resolved.freeze_stages) == ("frozen_bn", 2)
    assert "stride_in_1x1" in said[0]


def test_affine_layers_without_statistics_become_frozen_batch_norms(tmp_path, trained):
    path = pickled(tmp_path / "R-50.pkl", {"blobs": caffe2_names(trained, affine=True)})
    state, _, _ = _built(path, stride_in_1x1=True)
    norm = "backbone.bottom_up.res3.1.conv2.norm"
    assert torch.equal(state[f"{norm}.weight"], trained["res3.1.conv2.norm.weight"])
    assert (state[f"{norm}.running_mean"] == 0).all()
    torch.testing.assert_close(state[f"{norm}.running_var"] + 1e-5, torch.ones_like(state[f"{norm}.running_var"]))


def test_torchvision_weights_of_detectron2s_converter_see_normalised_rgb(tmp_path, trained):
    model = {key: value.numpy() for key, value in trained.items()}
    content = {"model": model, "__author__": "torchvision", "matching_heuristics": True}
    found = read_pickled_backbone(pickled(tmp_path / "r50.pkl", content), "resnet50")
    assert not found.stride_in_1x1
    assert torch.equal(found.state["backbone.trunk.conv1.weight"], trained["stem.conv1.weight"])


def test_a_stem_computes_the_same_on_its_own_pixels(tmp_path, trained):
    ours = read_pickled_backbone(pickled(tmp_path / "m.pkl", caffe2_names(trained)), "resnet50").state
    rgb = torch.randint(0, 256, (1, 3, 32, 32)).float()

    def normalised(pixels):
        mean, std = torch.tensor(pixels.mean)[:, None, None], torch.tensor(pixels.std)[:, None, None]
        return ((rgb if pixels.format == "RGB" else rgb[:, [2, 1, 0]]) - mean) / std

    theirs = conv2d(normalised(DETECTRON2_PIXELS), trained["stem.conv1.weight"], stride=2, padding=3)
    mine = conv2d(normalised(OUR_PIXELS), ours["backbone.trunk.conv1.weight"], stride=2, padding=3)
    torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-3)


class _Runs:
    def __reduce__(self) -> Any:
        return os.system, ("touch did-run",)


@pytest.mark.parametrize(
    "content",
    [
        _Runs(),
        {"a": _Runs()},
        {"model": {"x": np.array([_Runs()], dtype=object)}, "__author__": "x"},
        [1, 2],
        {"a": len},
    ],
    ids=["code", "code in a dictionary", "code in an array", "a list", "a function"],
)
def test_code_in_a_pickle_is_refused_and_does_not_run(tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    pickled(tmp_path / "bad.pkl", content)
    with pytest.raises(UserError, match=r"bad\.pkl"):
        read_arrays(tmp_path / "bad.pkl")
    assert not (tmp_path / "did-run").exists()


@pytest.mark.parametrize("content", [b"", b"\x80", b"not a pickle", b"\x80\x02}q\x00."], ids=["no", "1", "text", "{}"])
def test_damaged_and_empty_files_are_refused_by_name(tmp_path, content):
    (tmp_path / "bad.pkl").write_bytes(content)
    with pytest.raises(UserError, match=r"bad\.pkl"):
        _built(str(tmp_path / "bad.pkl"))


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_arrays_numbers_and_texts_of_every_protocol_are_read(tmp_path, protocol):
    array = np.arange(6.0).reshape(2, 3)
    content = OrderedDict(a=array, b=np.float32(2), c="text", d=b"\x00\xff")
    pickled(tmp_path / "a.pkl", content, protocol)
    found = read_arrays(tmp_path / "a.pkl")
    assert np.array_equal(found["a"], array)
    assert (found["b"], found["c"], found["d"]) == (2, "text", b"\x00\xff")


def test_msra_weights_that_cannot_be_had_are_explained(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))

    def offline(*args: Any, **options: Any) -> None:
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    with pytest.raises(UserError, match=r"backbone\.weights = msra, which could not be downloaded .*R-50\.pkl"):
        read_pickled_backbone("msra", "resnet50")
    with pytest.raises(UserError, match="none for resnet18"):
        read_pickled_backbone("msra", "resnet18")


def test_cached_msra_weights_are_said_to_be_unverified_and_refused_when_damaged(tmp_path, monkeypatch, trained):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    cached = tmp_path / "checkpoints" / "msra-R-50.pkl"
    pickled(cached, caffe2_names(trained))
    _, _, said = _built("msra", stride_in_1x1=True)
    assert said == ["backbone.weights = msra: that file is not verified, since its publisher gives no checksum."]
    cached.write_bytes(cached.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"msra-R-50\.pkl.*damaged.*Move that file away: it is downloaded again"):
        _built("msra")


@pytest.mark.parametrize(
    ("kind", "shape", "data"),
    [
        pytest.param("O", 1000, [1], id="objects"),
        pytest.param("f4", 1000, b"1234", id="shape larger than its data"),
        pytest.param("V8", 1, b"12345678", id="records"),
    ],
)
def test_arrays_are_plain_numbers_of_the_size_that_they_say(tmp_path, kind, shape, data):
    def emit(value: Any) -> bytes:
        return pickle.dumps(value, 2)[2:-1]

    array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n" + emit((0,)) + emit("b") + b"tR("
    array += emit(1) + emit((shape,)) + b"cnumpy\ndtype\n" + emit((kind, False, True)) + b"R" + emit(False)
    path = tmp_path / "odd.pkl"
    path.write_bytes(b"\x80\x02}X\x01\x00\x00\x00a" + array + emit(data) + b"tbs.")
    with pytest.raises(UserError, match=r"odd\.pkl: content = odd\.pkl, which is damaged, or holds more than arrays"):
        read_arrays(path)


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x02}r\xff\xff\xff\x7f.",  # LONG_BINPUT: part 2**31 - 1
        b"\x80\x02}p999999999999\n.",
        b"\x80\x04\x95" + (2**40).to_bytes(8, "little") + b"}.",  # FRAME
        b"\x80\x04\x8e" + (2**40).to_bytes(8, "little") + b"}.",  # BINBYTES8
    ],
)
def test_a_pickle_that_claims_more_than_it_holds_takes_no_memory(tmp_path, content):
    (tmp_path / "R-50.pkl").write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match="damaged"):
            read_arrays(tmp_path / "R-50.pkl")
        assert tracemalloc.get_traced_memory()[1] < 1e7
    finally:
        tracemalloc.stop()
