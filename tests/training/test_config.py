import json

import pytest

from ddpm_ref.errors import RangeError
from ddpm_ref.nn import UNetConfig
from ddpm_ref.training import Config, ScheduleConfig


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"max_gradient_norm": None, "ema_decay": None, "max_seconds": 1},
        {"network": UNetConfig(width=8, attention=())},
    ],
)
def test_a_config_survives_json(changes):
    config = Config(**changes)
    assert Config.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"dataset": "cifar10"}, "'digits'"),
        ({"prediction": "score"}, "'eps', 'x0', 'v'"),
        ({"loss": "huber"}, "'l2', 'l1'"),
        ({"ema_decay": 1.0}, r"ema_decay is 1\.0"),
        ({"ema_decay": -0.1}, r"ema_decay is -0\.1"),
        ({"ema_decay": float("nan")}, "ema_decay is nan"),
        ({"log_every": 0}, "log_every is 0"),
        ({"time_code": "continuous"}, "'zero_based'"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"warmup_steps": -1}, "warmup_steps is -1"),
        ({"seed": -1}, "seed is -1"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"max_gradient_norm": -1.0}, "max_gradient_norm is -1.0"),
        ({"cooldown": 1.5}, "cooldown is 1.5"),
        ({"max_seconds": 0}, "max_seconds is 0"),
        ({"max_steps": 0}, "max_steps is 0"),
        ({"checkpoint_seconds": float("inf")}, "checkpoint_seconds is inf"),
        ({"max_steps": None, "max_seconds": None}, "never end"),
    ],
)
def test_wrong_values_are_named(wrong, message):
    with pytest.raises(RangeError, match=message):
        Config(**wrong)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"batchsize": 3}, "Config has no 'batchsize'"),
        ({"batch_size": "many"}, r"Config\.batch_size is 'many'; it must be int"),
        ({"batch_size": True}, r"Config\.batch_size is True"),
        ({"max_steps": 2.5}, "it must be int or null"),
        ({"network": {"multipliers": 2}}, r"Config\.network\.multipliers is 2; it must be a list"),
        ({"network": {"multipliers": ["a"]}}, "it must be int"),
        ({"schedule": "cosine"}, "a table of names and values"),
    ],
)
def test_wrong_json_is_named(values, message):
    with pytest.raises(RangeError, match=message):
        Config.from_dict(values)


@pytest.mark.parametrize(
    "schedule",
    [ScheduleConfig(T=10, zero_terminal_snr=True), ScheduleConfig("linear", T=10, beta_T=1.0)],
    ids=["zero_terminal_snr", "beta_T = 1"],
)
def test_noise_is_not_predicted_where_the_last_level_is_noise_alone(schedule):
    with pytest.raises(RangeError, match=r"zero terminal SNR .* write prediction 'v' or 'x0'"):
        Config(schedule=schedule)
    for prediction in ("v", "x0"):
        assert Config(schedule=schedule, prediction=prediction).schedule is schedule


def test_the_learning_rate_rises_stays_and_falls():
    config = Config(learning_rate=2.0, warmup_steps=4, cooldown=0.25)
    rates = [config.learning_rate_at(step, (step - 1) / 16) for step in range(1, 18)]
    assert rates == [0.5, 1.0, 1.5, *[2.0] * 10, 1.5, 1.0, 0.5, 0.0]
    steady = Config(learning_rate=2.0, warmup_steps=0, cooldown=0)
    assert {steady.learning_rate_at(step, step / 16) for step in range(1, 17)} == {2.0}
