"""Checkpoints and cached weights that are not what they seem, and workers without room."""

import io
import zipfile

import pytest
import torch

from sapnet_pipe.data.errors import UserError
from sapnet_pipe.stages.training import loader
from sapnet_pipe.stages.training.backbone import build_resnet_fpn
from sapnet_pipe.stages.training.backbone_config import IMAGENET_SHA256
from sapnet_pipe.stages.training.checkpoint import Checkpoint, load_checkpoint, load_tensors, save_checkpoint


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("iteration", "a"),
        ("iteration", -5),
        ("iteration", 10**30),
        ("metrics_bytes", -1),
        ("optimizer", None),
        ("model", [1]),
    ],
)
def test_a_checkpoint_of_other_values_is_refused(tmp_path, field, value):
    path = tmp_path / "last.pt"
    values = {"model": {}, "optimizer": {}, "scaler": {}, "iteration": 1, "seed": 0, "metrics_bytes": 0}
    save_checkpoint(path, Checkpoint(**{**values, field: value}))
    with pytest.raises(UserError, match=f"{field} = .*not what a training writes"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    "pickled", [b"\x80\x02R.", b"\x80\x02}X\x01", b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n)R."]
)
def test_a_damaged_pickle_of_weights_is_refused(tmp_path, pickled):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        for name, data in (("data.pkl", b"\x80\x02" + pickled), ("version", b"3\n"), ("byteorder", b"little")):
            file.writestr(f"a/{name}", data)
    (tmp_path / "a.pth").write_bytes(content.getvalue())
    with pytest.raises(UserError, match=r"a\.pth: content = a\.pth, which is"):
        load_tensors(tmp_path / "a.pth")


def test_cached_imagenet_weights_are_the_published_ones(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    path = tmp_path / "checkpoints" / "resnet18-f37072fd.pth"
    path.parent.mkdir()
    torch.save({"conv1.weight": torch.zeros(64, 3, 7, 7)}, path)
    with pytest.raises(UserError, match=r"resnet18-f37072fd\.pth: sha256 = .*published file has f37072fd"):
        build_resnet_fpn("resnet18", weights="imagenet")
    assert path.is_file()
    assert all(len(digits) == 64 for digits in IMAGENET_SHA256.values())


def _too_large(index):
    return {"images": torch.zeros(4)}


def test_a_worker_without_room_in_shared_memory_ends_the_training(monkeypatch):
    def full(tensor):
        raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1>: No space left on device (28)")

    monkeypatch.setattr(torch.Tensor, "share_memory_", full)
    monkeypatch.setattr(loader, "available_cores", lambda: 1)
    with pytest.raises(UserError, match=r"train\.workers = 1, .*/dev/shm .*No space left"):
        list(loader.load_in_order(_too_large, range(2), 1))
