"""Muon, lookahead and multipliers that end, against NumPy re-implementations."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from imgcls.core.defaults import default_config
from imgcls.core.durations import Durations
from imgcls.core.errors import ConfigError
from imgcls.train import optim

EXAMPLES = 1000
# A wide and a tall convolution, queries with keys and values, and parameters that are no matrices.
SHAPES = {
    "conv1/kernel": (3, 3, 2, 4),
    "conv2/kernel": (1, 1, 2, 5),
    "attn/qkv/kernel": (4, 3, 2, 2),
    "attn/proj/kernel": (2, 2, 3),
    "bn1/scale": (4,),
    "conv1/bias": (4,),
    "head/kernel": (4, 3),
}
# Each matrix as (inputs, outputs).
MATRICES = {
    "conv1/kernel": (18, 4),
    "conv2/kernel": (2, 5),
    "attn/qkv/kernel": (4, 12),
    "attn/proj/kernel": (4, 3),
}


@pytest.fixture
def config():
    """100 steps of 100 examples, 10 steps an epoch, at a constant rate."""
    config = default_config()
    config.batch_size, config.total = 100, "10 epochs"
    config.schedule.name = "constant"
    config.optim.update({"name": "muon", "learning_rate": 0.1})
    return config


def draw(seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}


def run(config, num_steps: int) -> list[dict]:
    """The parameters before and after each step, from random gradients."""
    params = jax.tree.map(jnp.asarray, draw(0))
    optimizer, _ = optim.create_optimizer(config, Durations(config, EXAMPLES), params)
    state, update = optimizer.init(params), jax.jit(optimizer.update)
    path = [params]
    for step in range(1, num_steps + 1):
        updates, state = update(draw(step), state, params)
        params = optax.apply_updates(params, updates)
        path.append(params)
    return [{name: np.float64(value) for name, value in params.items()} for params in path]


def newton_schulz(matrix: np.ndarray, steps: int) -> np.ndarray:
    """Jordan et al. 2024: X <- a X + (b A + c A A) X with A = X X^T, from X = G / |G|."""
    x = matrix / np.linalg.norm(matrix)
    wide = x.T if x.shape[0] > x.shape[1] else x
    for _ in range(steps):
        gram = wide @ wide.T
        wide = 3.4445 * wide + (-4.7750 * gram + 2.0315 * gram @ gram) @ wide
    return wide.T if x.shape[0] > x.shape[1] else wide


def direction(name, grads: list, beta: float, nesterov: bool, steps: int) -> np.ndarray:
    """The orthogonalized, bias-corrected momentum after some gradients."""
    count = len(grads)
    mean = sum((1 - beta) * beta ** (count - 1 - t) * g for t, g in enumerate(grads))
    if nesterov:
        # Nesterov: the momentum after one more step, and the latest gradient.
        mean = beta * mean / (1 - beta ** (count + 1)) + (1 - beta) * grads[-1] / (1 - beta**count)
    return newton_schulz(mean.reshape(MATRICES[name]), steps).reshape(SHAPES[name])


# ---- Muon.


@pytest.mark.parametrize(("nesterov", "steps", "beta"), [(True, 5, 0.95), (False, 3, 0.6)])
def test_matrices(config, nesterov, steps, beta):
    config.optim.update({"nesterov": nesterov, "weight_decay": 0.1})
    config.optim.muon.update({"momentum": beta, "steps": steps})
    path = run(config, 3)
    for name, (inputs, outputs) in MATRICES.items():
        grads = []
        for step in range(1, 4):
            grads.append(np.float64(draw(step)[name]))
            move = direction(name, grads, beta, nesterov, steps)
            before = path[step - 1][name]
            expected = before - 0.1 * (move * max(1, outputs / inputs) ** 0.5 + 0.1 * before)
            np.testing.assert_allclose(path[step][name], expected, atol=2e-5, err_msg=name)


def test_updates_are_nearly_orthogonal(config):
    path = run(config, 1)
    for name, shape in MATRICES.items():
        scale = 0.1 * max(1, shape[1] / shape[0]) ** 0.5
        change = (path[1][name] - path[0][name]).reshape(shape) / scale
        values = np.linalg.svd(change, compute_uv=False)
        assert 0.5 < values.min() and values.max() < 1.3, name


def test_fixed_norm(config):
    """Each matrix is scaled to the norm sqrt(outputs) and then updated, without weight decay."""
    config.optim.weight_decay = 0.1
    config.optim.muon.update({"fixed_norm": True, "momentum": 0.6, "steps": 3})
    path = run(config, 2)
    for name, (inputs, outputs) in MATRICES.items():
        grads = []
        for step in (1, 2):
            grads.append(np.float64(draw(step)[name]))
            move = direction(name, grads, 0.6, True, 3) * max(1, outputs / inputs) ** 0.5
            before = path[step - 1][name]
            expected = before * outputs**0.5 / np.linalg.norm(before) - 0.1 * move
            np.testing.assert_allclose(path[step][name], expected, atol=2e-5, err_msg=name)


@pytest.mark.parametrize(("rest", "name"), [("adam", "adamw"), ("sgd", "sgd")])
def test_rest_is_updated_by_its_own_optimizer(config, rest, name):
    config.optim.update({"weight_decay": 0.1, "momentum": 0.8, "b1": 0.7})
    config.optim.muon.rest = rest
    ours = run(config, 4)[-1]
    config.optim.name = name
    expected = run(config, 4)[-1]
    for key in SHAPES:
        if key not in MATRICES:
            np.testing.assert_allclose(ours[key], expected[key], rtol=1e-6, err_msg=key)


def test_exclude(config):
    config.optim.muon.exclude = "conv1"
    excluded = run(config, 2)[-1]
    config.optim.muon.exclude = ""
    all_matrices = run(config, 2)[-1]
    assert np.any(excluded["conv1/kernel"] != all_matrices["conv1/kernel"])
    assert np.all(excluded["conv2/kernel"] == all_matrices["conv2/kernel"])
    # Without exclusions the head is a matrix too.
    assert np.all(excluded["head/kernel"] == all_matrices["head/kernel"])


# ---- Lookahead.


@pytest.mark.parametrize(("every", "power", "total"), [(3, 0.0, 100), (2, 3.0, 7)])
def test_lookahead(config, every, power, total):
    config.total = f"{total} steps"
    config.optim.update({"name": "sgd", "momentum": 0.9, "nesterov": True})
    config.optim.lookahead.update({"every": every, "decay": 0.8, "power": power})
    path = run(config, 7)
    for name in SHAPES:
        slow = fast = path[0][name]
        velocity = np.zeros_like(fast)
        for step in range(1, 8):
            grad = np.float64(draw(step)[name])
            velocity = 0.9 * velocity + grad
            fast = fast - 0.1 * (grad + 0.9 * velocity)
            if step % every == 0 or step == total:
                kept = 0.8 * (step / total) ** power
                slow = fast = kept * slow + (1 - kept) * fast
            np.testing.assert_allclose(path[step][name], fast, atol=1e-5, err_msg=name)


def test_lookahead_keeps_frozen_parameters(config):
    config.optim.multipliers = (("conv", 0.0),)
    config.optim.lookahead.every = 2
    first, *_, last = run(config, 4)
    np.testing.assert_array_equal(first["conv1/kernel"], last["conv1/kernel"])
    assert np.any(first["head/kernel"] != last["head/kernel"])


# ---- Multipliers that end.


def test_multiplier_that_ends(config):
    """After the duration a parameter is frozen; the others are not affected."""
    plain = run(config, 6)
    config.optim.multipliers = (
        ("conv1/bias", 2.0, "0.3 epochs"),
        ("bn1", 1.0, "5 steps"),
        ("head", 0.5),
    )
    path = run(config, 6)
    for step in range(1, 7):
        for name, factor, last in (("conv1/bias", 2.0, 3), ("bn1/scale", 1.0, 5)):
            change = path[step][name] - path[step - 1][name]
            expected = factor * (plain[step][name] - plain[step - 1][name])
            np.testing.assert_allclose(change, expected * (step <= last), atol=1e-6)
    np.testing.assert_array_equal(path[6]["conv2/kernel"], plain[6]["conv2/kernel"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"muon": {"rest": "lamb"}}, "config.optim.muon.rest='lamb': unknown.*valid: adam, sgd"),
        ({"muon": {"steps": 0}}, "config.optim.muon.steps=0: must be 1 or more"),
        ({"muon": {"exclude": "("}}, r"'\(' is not a regular expression"),
        ({"lookahead": {"every": -1}}, "config.optim.lookahead: every and power must be 0 or more"),
        ({"lookahead": {"every": 5, "decay": 1.0}}, "config.optim.lookahead: .*below 1"),
        ({"multipliers": (("head", 1.0, "soon"),)}, "config.optim.multipliers='soon': not a dur"),
        ({"multipliers": (("head", 1.0, 3),)}, "is invalid; write"),
        ({"multipliers": (("head", 1.0, "3 steps", 2),)}, "is invalid; write"),
    ],
)
def test_invalid_options(config, changes, message):
    config.optim.update(changes)
    with pytest.raises(ConfigError, match=message) as error:
        optim.create_optimizer(config, Durations(config, EXAMPLES), draw(0))
    assert "\n" not in str(error.value)
