"""Settings that could not work are refused with the reason; every preset is valid."""

import pytest
from pydantic import ValidationError

from sapnet_pipe.pipeline.settings import resolve_settings
from sapnet_pipe.stages.segment.config import HeadConfig, SegmentConfig
from sapnet_pipe.stages.segment.presets import PRESETS
from tests.places import ROOT


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_every_preset_is_valid_and_keeps_the_pyramid_of_published_checkpoints(name):
    config = SegmentConfig.model_validate(PRESETS[name])
    assert config.backbone.fpn_norm == "none"


def test_presets_have_the_numbers_of_the_paper():
    one = SegmentConfig.model_validate(PRESETS["solov2-r50-1x"])
    assert one.train.lr / one.train.batch_size == pytest.approx(0.015 / 32)
    assert one.train.milestones == pytest.approx((8 / 12, 10 / 12))
    assert one.loss.mps_weight == 0.25
    for name in ("resnet50", "resnet101"):
        three = SegmentConfig.model_validate(PRESETS[f"solov2-{name.replace('esnet', '')}-3x"])
        assert three.backbone.name == name
        assert three.image.short_sides == tuple(range(640, 801, 32))
        assert three.train.epochs == 36
        assert three.loss.mps_weight == 0


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"num_grids": (40, 36)}, "one entry per level"),
        ({"features": ("p1", "p3", "p4", "p5", "p6")}, "p1 is not one of"),
        ({"strides": (8, 8, 16, 32, 30)}, "30 is not one of"),
        ({"scale_ranges": ((1, 96), (48, 192), (96, 384), (768, 192), (384, 2048))}, "not a range of sizes"),
        ({"mask_channels": 16}, "mask_channels = 16 must be a multiple of norm_groups = 32"),
        ({"num_grids": (40, 36, 24, 16, 0)}, "1 to 1000 cells"),
    ],
)
def test_heads_that_cannot_be_built_are_refused(change, reason):
    with pytest.raises(ValidationError, match=reason):
        HeadConfig(**change)


def test_narrow_heads_need_no_norm_groups_without_norm():
    assert HeadConfig(mask_channels=16, norm="none").mask_channels == 16


def test_detectron2_options_are_told_from_settings_by_their_capitals():
    config = SegmentConfig.model_validate({"detectron2": {"processes": 2, "SOLVER": {"BASE_LR": 0.5}}})
    assert config.detectron2.options == {"SOLVER": {"BASE_LR": 0.5}}
    assert SegmentConfig.model_validate(config.model_dump()) == config
    with pytest.raises(ValidationError, match="proceses is neither 'processes' nor an option"):
        SegmentConfig.model_validate({"detectron2": {"proceses": 2}})


def test_the_recipe_of_adelaidet_on_the_page_is_of_settings_that_exist():
    page = (ROOT / "docs" / "engines.md").read_text(encoding="utf-8")
    block = page.partition("## AdelaiDet's recipe")[2].partition("```sh")[2].partition("```")[0]
    assignments = block.replace("\n", " ").split("--set ")[1:]
    config = resolve_settings(
        SegmentConfig, preset=PRESETS["solov2-r50-1x"], assignments=[text.strip() for text in assignments]
    )
    assert len(assignments) == 13
    assert config.train.lr == 0.01
    assert config.train.milestones == (60000, 80000)
    assert config.backbone.stride_in_1x1
