"""SOLOv2 from a selector's trunk and pyramid, as the paper trains both over one backbone."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from sapnet_pipe.data.errors import UserError
from sapnet_pipe.data.files import read_json, write_json
from sapnet_pipe.stages.segment.config import SegmentBackboneConfig
from sapnet_pipe.stages.segment.network import build_solov2
from sapnet_pipe.stages.segment.solov2.model import SOLOv2
from sapnet_pipe.stages.select.run import run
from sapnet_pipe.stages.training.checkpoint import load_checkpoint, load_tensors, save_tensors
from sapnet_pipe.stages.training.run_files import BACKBONE, CHECKPOINT, MANIFEST
from tests.stages.segment.segment_scenes import tiny_config
from tests.stages.select.toy_store import toy_config, toy_store

SAME = {"name": "resnet10", "width": 16, "fpn_channels": 16, "fpn_norm": "gn"}


@pytest.fixture(scope="module")
def selector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of a tiny selector."""
    folder = tmp_path_factory.mktemp("selector")
    store, images, _ = toy_store(folder / "toy")
    out = folder / "run"
    out.mkdir()
    run(store, images, out, toy_config(train__max_iterations=2), quiet=True)
    write_json(out / MANIFEST, {"command": "select", "status": "complete"})
    return out


@pytest.fixture
def copied(selector: Path, tmp_path: Path) -> Path:
    shutil.copytree(selector, tmp_path / "run")
    return tmp_path / "run"


def built(weights: Path, **changes: Any) -> tuple[SOLOv2, SegmentBackboneConfig, list[str]]:
    said: list[str] = []
    backbone = SegmentBackboneConfig.model_validate({**SAME, "weights": str(weights), **changes})
    model, resolved = build_solov2(backbone, tiny_config().head, 2, warn=said.append, load=True)
    return model, resolved, said


def test_trunk_and_pyramid_are_the_selectors(selector: Path) -> None:
    model, resolved, said = built(selector)
    state = load_checkpoint(selector / CHECKPOINT).model
    found = {f"backbone.{key}": tensor for key, tensor in model.backbone.state_dict().items()}
    assert len(found) > 30
    assert all(torch.equal(tensor, state[key]) for key, tensor in found.items())
    assert (resolved.norm, resolved.freeze_stages) == ("gn", 0), "as the selector had them"
    assert said == ["started from the selector's trunk and pyramid."]


def test_a_pyramid_of_another_kind_stays_random_and_a_line_says_so(selector: Path) -> None:
    model, _, said = built(selector, fpn_norm="none")
    state = load_checkpoint(selector / CHECKPOINT).model
    found = {key: tensor for key, tensor in model.state_dict().items() if key.startswith("backbone.trunk.")}
    assert len(found) > 30
    assert all(torch.equal(tensor, state[key]) for key, tensor in found.items())
    (line,) = said
    assert "its pyramid is of another kind" in line
    assert "backbone.fpn_channels=16 and backbone.fpn_norm=gn" in line


def test_a_resumed_training_does_not_need_the_selector_again(selector: Path) -> None:
    _, resolved, _ = built(selector)
    gone = resolved.model_copy(update={"weights": str(selector / "gone")})
    build_solov2(gone, tiny_config().head, 2, warn=pytest.fail, load=False)


def test_strides_are_where_the_selector_had_them(selector: Path) -> None:
    _, resolved, said = built(selector, stride_in_1x1=True)
    assert not resolved.stride_in_1x1
    assert "takes backbone.stride_in_1x1 = False" in said[-1]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"name": "resnet18"},
            r"backbone\.name = resnet18, but the selector in .* has resnet10.* backbone\.name=resnet10",
        ),
        ({"width": 32}, r"backbone\.width = 32, but the selector in .* has 16.* Set backbone\.width=16"),
    ],
)
def test_another_trunk_is_refused_with_the_setting_that_fits(
    selector: Path, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        built(selector, **changes)


def test_folders_that_are_no_finished_selector_are_refused(copied: Path) -> None:
    shutil.copy(copied / MANIFEST, copied / "kept.json")
    for manifest, said in (
        ({"command": "train-seg", "status": "complete"}, "no run of select"),
        ({"command": "select", "status": "running"}, "not finished"),
        ([], "no run of select"),
    ):
        write_json(copied / MANIFEST, manifest)
        with pytest.raises(UserError, match=said):
            built(copied)
    write_json(copied / MANIFEST, read_json(copied / "kept.json"))
    backbone = (copied / BACKBONE).read_bytes()
    (copied / BACKBONE).write_text('{"name": 3}')
    with pytest.raises(UserError, match="name = 3"):
        built(copied)
    (copied / BACKBONE).unlink()
    with pytest.raises(UserError, match="trained no backbone"):
        built(copied)
    (copied / BACKBONE).write_bytes(backbone)
    content = load_tensors(copied / CHECKPOINT)
    heads = {key: value for key, value in content["model"].items() if not key.startswith("backbone.")}
    save_tensors(copied / CHECKPOINT, {**content, "model": heads})
    with pytest.raises(UserError, match="heads alone"):
        built(copied)
    (copied / CHECKPOINT).write_bytes(b"PK\x03\x04")
    with pytest.raises(UserError, match="truncated or damaged"):
        built(copied)
    (copied / MANIFEST).unlink()
    with pytest.raises(UserError, match=r"manifest\.json"):
        built(copied)
