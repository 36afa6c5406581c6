"""Durations in epochs, steps, examples and percent."""

import re

import pytest

from imgcls.core.defaults import default_config
from imgcls.core.durations import Durations, to_steps
from imgcls.core.errors import ConfigError


@pytest.mark.parametrize(
    ("duration", "expected"),
    [
        ("1 epochs", 10),
        ("1 epoch", 10),
        ("90 epochs", 900),
        ("0.5 epochs", 5),
        ("500 steps", 500),
        ("1 step", 1),
        ("10_000 steps", 10_000),
        ("1e3 steps", 1000),
        ("1.28e6 examples", 12_800),
        ("1e6 examples", 10_000),
        ("100 examples", 1),
        ("1 example", 1),
        ("0.001 epochs", 1),
        ("5 percent", 50),
        ("100 percent", 1000),
        ("0 epochs", 0),
        ("0 steps", 0),
        ("0 percent", 0),
        (" 2  epochs ", 20),
        # A duration above zero is at least one step.
        ("0.01 percent", 1),
    ],
)
def test_durations(duration, expected):
    config = default_config()
    config.total, config.batch_size = "100 epochs", 100
    steps = to_steps(duration, config, 1000, "key")
    assert steps == expected and type(steps) is int


def test_epochs_with_a_fractional_number_of_steps():
    config = default_config()
    config.batch_size, config.total = 64, "3 epochs"
    examples = 1437  # 22.45 steps
    assert [to_steps(f"{n} epochs", config, examples, "x") for n in (1, 2, 3)] == [22, 45, 67]
    assert to_steps("50 percent", config, examples, "x") == round(0.5 * 67)


@pytest.mark.parametrize(
    "duration",
    ["5", "epochs", "5 days", "-5 steps", "5 Epochs", "five steps", "1e999 steps", "_ steps", ""],
)
def test_not_a_duration(duration):
    message = rf"config.log.every={re.escape(repr(duration))}: not a duration; write '90 epochs'"
    with pytest.raises(ConfigError, match=message):
        to_steps(duration, default_config(), 1000, "log.every")


def test_a_number_is_not_a_duration():
    with pytest.raises(ConfigError, match="config.log.every=5: not a duration"):
        to_steps(5, default_config(), 1000, "log.every")


def test_percent_is_of_total():
    config = default_config()
    config.total = "10 percent"
    for where, duration in (("total", "10 percent"), ("schedule.warmup", "5 percent")):
        with pytest.raises(ConfigError, match="config.total='10 percent': percent is of total"):
            to_steps(duration, config, 1000, where)


def test_durations_of_a_config():
    config = default_config()
    config.total, config.batch_size = "3 epochs", 64
    durations = Durations(config, 1437)
    assert durations.total == 67
    assert durations.to_steps("50 percent", "x") == to_steps("50 percent", config, 1437, "x")
    with pytest.raises(ConfigError, match="config.log.every='5': not a duration"):
        durations.to_steps("5", "log.every")
    config.total = "0 epochs"
    with pytest.raises(ConfigError, match="config.total='0 epochs': .* at least one step"):
        Durations(config, 1437)
