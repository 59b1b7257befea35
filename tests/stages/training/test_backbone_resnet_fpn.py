from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import torch
from torchvision.models import get_model_weights, resnet18, resnet50

from sapnet_pipe.data.errors import UserError
from sapnet_pipe.stages.training.backbone import build_backbone, build_resnet_fpn
from sapnet_pipe.stages.training.backbone_config import (
    IMAGENET_SHA256,
    STRIDES,
    BackboneConfig,
    ResNetName,
    imagenet_url,
)


def test_the_pyramid_has_strides_4_to_64() -> None:
    net = build_resnet_fpn("resnet10", fpn_channels=16, fpn_norm="gn", norm="gn", width=16, weights="none")
    features = net(torch.randn(2, 3, 64, 128))
    assert {name: tuple(f.shape) for name, f in features.items()} == {
        name: (2, 16, 64 // stride, 128 // stride) for name, stride in STRIDES.items()
    }


@pytest.mark.parametrize(("name", "reference"), [("resnet18", resnet18), ("resnet50", resnet50)])
def test_a_torchvision_weight_file_loads_and_computes_the_same(tmp_path: Path, name: Any, reference: Any) -> None:
    torch.manual_seed(0)
    wanted = reference(weights=None).eval()
    torch.save(wanted.state_dict(), tmp_path / "weights.pth")
    net = build_resnet_fpn(name, fpn_channels=8, weights=str(tmp_path / "weights.pth")).eval()
    image = torch.randn(1, 3, 64, 64)
    x = wanted.maxpool(wanted.relu(wanted.bn1(wanted.conv1(image))))
    for index, stage in enumerate((wanted.layer1, wanted.layer2, wanted.layer3, wanted.layer4)):
        x = stage(x)
        assert torch.allclose(net.trunk(image)[index], x, atol=1e-4)


def test_frozen_stages_have_no_gradient_and_keep_their_statistics() -> None:
    net = build_resnet_fpn("resnet10", width=16, fpn_channels=8, norm="bn", freeze_stages=2)
    net.train()
    frozen = {name for name, p in net.trunk.named_parameters() if not p.requires_grad}
    assert {name.split(".")[0] for name in frozen} == {"conv1", "bn1", "layer1"}
    before = net.trunk.bn1.running_mean.clone()  # type: ignore[operator]
    net(torch.randn(2, 3, 64, 64))
    assert torch.equal(net.trunk.bn1.running_mean, before)  # type: ignore[arg-type]
    assert net.trunk.get_submodule("layer2").training


def test_random_weights_that_could_never_train_are_refused() -> None:
    with pytest.raises(UserError, match=r"backbone\.norm = frozen_bn"):
        build_resnet_fpn("resnet18", norm="frozen_bn", weights="none")
    with pytest.raises(UserError, match=r"backbone\.freeze_stages = 2"):
        build_resnet_fpn("resnet18", norm="gn", freeze_stages=2, weights="none")


def test_weights_that_do_not_fit_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save(resnet18(weights=None).state_dict(), path)
    with pytest.raises(UserError, match=r"conv1\.weight"):
        build_resnet_fpn("resnet10", width=32, weights=str(path))
    with pytest.raises(UserError, match="does not exist"):
        build_resnet_fpn("resnet10", weights=str(tmp_path / "nowhere.pth"))
    with pytest.raises(UserError, match="none for resnet10"):
        build_resnet_fpn("resnet10", weights="imagenet")


@pytest.mark.parametrize("name", IMAGENET_SHA256)
def test_the_weights_are_torchvisions(name: ResNetName) -> None:
    assert imagenet_url(name) == get_model_weights(name)["IMAGENET1K_V1"].url


@pytest.mark.parametrize("weights", [{}, {"weights": "auto"}, {"weights": "imagenet"}])
def test_without_a_network_nothing_is_trained_from_random_weights_unasked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, weights: dict[str, str]
) -> None:
    def offline(url: str, path: str, progress: bool) -> None:
        raise URLError("no route to host")

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(UserError, match="could not be downloaded") as error:
        build_backbone(BackboneConfig(name="resnet18", fpn_channels=8, **weights))
    line = str(error.value)
    assert f"Put that file at {tmp_path}" in line
    assert "--set backbone.weights=FILE, or the run folder of a select" in line
    assert "=none to train from random weights" in line
    asked, resolved = build_backbone(BackboneConfig(name="resnet18", fpn_channels=8, weights="none"))
    assert (resolved.norm, resolved.freeze_stages) == ("gn", 0)
    assert all(p.requires_grad for p in asked.parameters())


def test_given_weights_mean_frozen_statistics_and_a_frozen_stem(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save(resnet18(weights=None).state_dict(), path)
    _, resolved = build_backbone(BackboneConfig(name="resnet18", weights=str(path), fpn_channels=8))
    assert (resolved.norm, resolved.freeze_stages) == ("frozen_bn", 2)
