"""Schedules of the learning rate at exact steps."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imgcls.core.durations import Durations
from imgcls.train import schedule as train_schedule
from tests.train.schedules import EXAMPLES, make_config, warmup_cosine


@pytest.fixture
def config():
    return make_config()


def rates(config, at) -> list[float]:
    schedule = train_schedule.create_schedule(config, Durations(config, EXAMPLES))
    return [float(schedule(step)) for step in at]


def test_cosine(config):
    config.schedule.update({"name": "cosine", "warmup": "1 epochs", "final": 0.1})
    config.optim.learning_rate = 0.8
    at = [0, 4, 9, 10, 11, 55, 99, 100]
    expected = [warmup_cosine(s, peak=0.8, warmup=10, total=100, final=0.1) for s in at]
    np.testing.assert_allclose(rates(config, at), expected, rtol=1e-6)
    assert rates(config, [0, 10, 55, 100]) == pytest.approx([0.8 / 11, 0.8, 0.44, 0.08], rel=1e-6)


def test_linear(config):
    config.schedule.update({"name": "linear", "warmup": "20 steps", "final": 0.25})
    config.optim.learning_rate = 1.0
    expected = [1 / 21, 20 / 21, 1.0, 0.625, 0.25, 0.25]
    np.testing.assert_allclose(rates(config, [0, 19, 20, 60, 100, 120]), expected, rtol=1e-6)


def test_step(config):
    config.schedule.update({"name": "step", "warmup": "5 steps", "factor": 0.5})
    config.schedule.boundaries = ("3 epochs", "60 steps", "90 percent")
    config.optim.learning_rate = 8.0
    at = [0, 4, 5, 29, 30, 59, 60, 89, 90, 100]
    expected = [8 / 6, 8 * 5 / 6, 8, 8, 4, 4, 2, 2, 1, 1]
    np.testing.assert_allclose(rates(config, at), expected, rtol=1e-6)


def test_step_without_warmup(config):
    config.schedule.update({"name": "step", "warmup": "0 steps", "boundaries": ("50 steps",)})
    np.testing.assert_allclose(rates(config, [0, 49, 50]), [0.1, 0.1, 0.01], rtol=1e-6)


def test_boundaries_at_the_same_step_all_count(config):
    """As in a recipe that is tried for a few steps."""
    config.schedule.update({"name": "step", "warmup": "0 steps"})
    config.schedule.boundaries = ("10 steps", "1 epochs", "11 steps")
    np.testing.assert_allclose(rates(config, [9, 10, 11]), [0.1, 1e-3, 1e-4], rtol=1e-5)


def test_rsqrt(config):
    config.schedule.update({"name": "rsqrt", "warmup": "10 steps", "timescale": "30 steps"})
    config.schedule.cooldown = "20 steps"
    config.optim.learning_rate = 2.0
    assert rates(config, [0, 10, 40]) == pytest.approx([2 / 11, 2.0, 2 / math.sqrt(2)], rel=1e-6)
    at = [79, 80, 85, 99, 100]
    expected = [2 / math.sqrt(1 + (s - 10) / 30) * min(1, (100 - s) / 20) for s in at]
    np.testing.assert_allclose(rates(config, at), expected, rtol=1e-6)
    assert rates(config, [100, 105]) == [0.0, 0.0]


def test_constant_with_cooldown(config):
    config.schedule.update({"name": "constant", "warmup": "0 steps", "cooldown": "10 percent"})
    at = [0, 50, 90, 95, 99, 100]
    np.testing.assert_allclose(rates(config, at), [0.1, 0.1, 0.1, 0.05, 0.01, 0.0], rtol=1e-6)


@pytest.mark.parametrize("name", train_schedule.SCHEDULES)
def test_warmup_is_linear_and_ends_at_the_peak(config, name):
    config.schedule.update({"name": name, "warmup": "7 steps"})
    expected = [0.1 * (s + 1) / 8 for s in range(7)] + [0.1]
    np.testing.assert_allclose(rates(config, range(8)), expected, rtol=1e-6)


@pytest.mark.parametrize("name", train_schedule.SCHEDULES)
def test_no_warmup_starts_at_the_peak(config, name):
    config.schedule.update({"name": name, "warmup": "0 steps"})
    assert rates(config, [0]) == pytest.approx([0.1])


@pytest.mark.parametrize("name", train_schedule.SCHEDULES)
def test_run_may_end_during_warmup(config, name):
    config.total = "5 steps"
    config.schedule.update({"name": name, "warmup": "50 steps"})
    np.testing.assert_allclose(
        rates(config, range(6)), [0.1 * (s + 1) / 51 for s in range(6)], rtol=1e-6
    )


def test_base_batch(config):
    config.schedule.warmup = "0 steps"
    config.batch_size, config.optim.base_batch = 1024, 256
    assert rates(config, [0]) == pytest.approx([0.4])
    config.batch_size = 64
    assert rates(config, [0]) == pytest.approx([0.025])


@pytest.mark.parametrize("name", train_schedule.SCHEDULES)
def test_schedule_under_jit(config, name):
    config.schedule.update({"name": name, "warmup": "10 steps", "boundaries": ("30 steps",)})
    schedule = train_schedule.create_schedule(config, Durations(config, EXAMPLES))
    at = jnp.arange(0, 101, 5)
    traced = jax.jit(jax.vmap(schedule))(at)
    assert traced.dtype == jnp.float32
    # The last rate is 0 up to float32 rounding of the peak.
    np.testing.assert_allclose(traced, rates(config, at), rtol=1e-5, atol=1e-7 * 0.1)
