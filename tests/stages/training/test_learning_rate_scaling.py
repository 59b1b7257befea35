"""The learning rate follows the batch size linearly unless it is set, and says which; presets hold the paper's."""

from typing import Any

import pytest
from pydantic import ValidationError

from sapnet_pipe.pipeline.settings import resolve_settings
from sapnet_pipe.stages.segment.config import SegmentConfig
from sapnet_pipe.stages.segment.presets import PRESETS as SEGMENT_PRESETS
from sapnet_pipe.stages.select.config import SelectConfig
from sapnet_pipe.stages.select.presets import PRESETS as SELECT_PRESETS
from sapnet_pipe.stages.training.config import TrainConfig, lr_line


@pytest.mark.parametrize("batch", [1, 8, 16, 64])
def test_the_rate_is_proportional_to_the_batch(batch: int) -> None:
    assert TrainConfig(batch_size=batch, base_lr=0.0075, base_batch=16).lr == pytest.approx(0.0075 * batch / 16)


def test_a_rate_that_is_set_stays_as_it_is_whatever_the_batch() -> None:
    assert TrainConfig(lr=0.02, batch_size=8, base_lr=0.0075, base_batch=16).lr == 0.02


def test_the_line_says_how_the_rate_came_about() -> None:
    followed = TrainConfig(batch_size=8, base_lr=0.0075, base_batch=16)
    assert lr_line(followed) == "lr 0.00375 = 0.0075 x 8/16 (it follows train.batch_size)."
    given = TrainConfig(batch_size=8, lr=0.02, base_lr=0.0075, base_batch=16)
    assert lr_line(given) == "lr 0.02 as train.lr sets it; 0.0075 x 8/16 = 0.00375 would follow train.batch_size."


def test_a_configuration_that_is_written_and_read_again_keeps_its_rate() -> None:
    config = TrainConfig(batch_size=8, base_lr=0.0075, base_batch=16)
    assert TrainConfig.model_validate(config.model_dump(mode="json")) == config


@pytest.mark.parametrize("values", [{"batch_size": 0}, {"base_batch": "x"}, {"base_lr": -1.0}, {"batch_size": None}])
def test_a_batch_that_is_none_is_refused_by_its_own_name(values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as caught:
        TrainConfig.model_validate(values)
    assert caught.value.errors()[0]["loc"] == (next(iter(values)),)


@pytest.mark.parametrize(
    ("model", "presets"), [(SegmentConfig, SEGMENT_PRESETS), (SelectConfig, SELECT_PRESETS)], ids=["segment", "select"]
)
def test_no_preset_sets_the_rate_itself_so_that_every_batch_scales_it(model: Any, presets: Any) -> None:
    for name, preset in presets.items():
        once = resolve_settings(model, preset=preset).train
        twice = resolve_settings(model, preset=preset, assignments=[f"train.batch_size={2 * once.batch_size}"]).train
        assert twice.lr == pytest.approx(2 * once.lr), name
        fixed = resolve_settings(model, preset=preset, assignments=["train.lr=0.5", "train.batch_size=3"]).train
        assert fixed.lr == 0.5, name


def _segment(name: str) -> SegmentConfig:
    return SegmentConfig.model_validate(SEGMENT_PRESETS[name])


def _assert_schedule(train: TrainConfig, *, epochs: float, lr_at_32: float) -> None:
    assert train.epochs == epochs
    assert train.lr * 32 / train.batch_size == pytest.approx(lr_at_32)
    assert train.scheduler == "step"
    assert train.gamma == 0.1
    assert [m * epochs for m in train.milestones] == pytest.approx([8 * epochs / 12, 10 * epochs / 12])
    assert (train.optimizer, train.momentum, train.weight_decay) == ("sgd", 0.9, 1e-4)
    assert (train.warmup_iterations, train.clip_norm) == (500, 35.0)


@pytest.mark.parametrize(("name", "lr_at_32"), [("solov2-r50-1x", 0.015), ("solov2-r50-voc", 0.002)])
def test_the_1x_presets_of_the_segmenter_have_every_number_of_the_supplement(name: str, lr_at_32: float) -> None:
    config = _segment(name)
    _assert_schedule(config.train, epochs=12, lr_at_32=lr_at_32)
    assert config.backbone.name == "resnet50"
    assert (config.image.short_sides, config.image.long_side, config.image.flip) == ((800,), 1333, True)
    assert (config.test.short_side, config.test.long_side) == (800, 1333)
    assert config.loss.mps_weight == 0.25
    assert config.loss.dice_weight == 3


def test_the_3x_preset_trains_at_several_sizes_without_alternates() -> None:
    config = _segment("solov2-r101-3x")
    _assert_schedule(config.train, epochs=36, lr_at_32=0.015)
    assert config.backbone.name == "resnet101"
    assert config.image.short_sides == (640, 672, 704, 736, 768, 800)
    assert config.loss.mps_weight == 0
    assert (config.test.short_side, config.test.long_side) == (800, 1333)


def test_the_small_preset_makes_some_thousand_steps_of_a_few_hundred_photographs() -> None:
    train = _segment("small").train
    assert 2000 < train.epochs * 300 / train.batch_size < 6000
    assert train.warmup_iterations < 500
    assert train.lr == pytest.approx(0.01 * train.batch_size / 16), "SOLOv2's own rate"


@pytest.mark.parametrize(("name", "lr_at_32"), [("coco-1x", 0.015), ("voc", 0.002)])
def test_the_presets_of_the_selector_have_every_number_of_the_supplement(name: str, lr_at_32: float) -> None:
    config = SelectConfig.model_validate(SELECT_PRESETS[name])
    _assert_schedule(config.train, epochs=12, lr_at_32=lr_at_32)
    assert (config.image.short_side, config.image.long_side) == (800, 1333)
    assert config.pdg.exponent == 0.015
    assert (config.negatives.t_neg1, config.negatives.t_neg2) == (0.3, 0.5)
    assert config.bms.top_k == 3
