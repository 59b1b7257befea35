import pytest

from sapnet_pipe.stages.training.config import TrainConfig, lr_at, resolve_length


def test_epochs_become_iterations_and_set_iterations_win() -> None:
    assert resolve_length(TrainConfig(epochs=12, batch_size=4), 10).max_iterations == 30
    assert resolve_length(TrainConfig(epochs=1, batch_size=4), 1).max_iterations == 1
    assert resolve_length(TrainConfig(max_iterations=7), 10_000).max_iterations == 7


def test_few_images_train_as_long_as_it_takes_and_not_in_the_warm_up_alone() -> None:
    config = TrainConfig(epochs=12, batch_size=4, min_iterations=1500, warmup_iterations=500)
    few, many = resolve_length(config, 50), resolve_length(config, 118_000)
    assert (few.max_iterations, few.warmup_iterations) == (1500, 375)
    assert (many.max_iterations, many.warmup_iterations) == (354_000, 500)
    assert resolve_length(config.model_copy(update={"max_iterations": 20}), 50).max_iterations == 20
    assert resolve_length(TrainConfig(epochs=12, batch_size=4, warmup_iterations=500), 50).warmup_iterations == 37


def test_the_learning_rate_warms_up_and_falls_at_shares_of_the_length() -> None:
    config = TrainConfig(max_iterations=120, lr=1.0, warmup_iterations=10, warmup_factor=0.1, milestones=(0.5, 100))
    assert lr_at(config, 0) == pytest.approx(0.1)
    assert lr_at(config, 5) == pytest.approx(0.55)
    assert lr_at(config, 59) == pytest.approx(1.0)
    assert lr_at(config, 60) == pytest.approx(0.1)
    assert lr_at(config, 100) == pytest.approx(0.01)


def test_the_cosine_starts_at_the_peak_after_the_warm_up_and_ends_at_zero() -> None:
    config = TrainConfig(max_iterations=110, lr=2.0, warmup_iterations=10, scheduler="cosine")
    assert lr_at(config, 10) == pytest.approx(2.0)
    assert lr_at(config, 60) == pytest.approx(1.0)
    assert lr_at(config, 110) == pytest.approx(0.0)


def test_a_trial_of_one_step_has_a_positive_rate() -> None:
    assert lr_at(TrainConfig(max_iterations=1), 0) > 0
