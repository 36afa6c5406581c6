"""BatchNorm, DropPath and LayerScale against NumPy."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imgcls.core.errors import ConfigError
from imgcls.models.layers.norm import BatchNorm, BatchNormMode, batch_norm_mode
from imgcls.models.layers.residual import DropPath, LayerScale, drop_path_rates


def variables(channels, seed=0):
    rng = np.random.default_rng(seed)
    draw = lambda low, high: jnp.asarray(rng.uniform(low, high, channels), jnp.float32)  # noqa: E731
    return {
        "params": {"scale": draw(0.5, 2), "bias": draw(-1, 1)},
        "batch_stats": {"mean": draw(-1, 1), "var": draw(0.5, 2)},
    }


def reference_batch_norm(x, v, state, epsilon=1e-5, momentum=0.9):
    """(output, running mean, running var) in float64, for groups of v examples."""
    x = np.asarray(x, np.float64)
    state = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), state)
    params, stats = state["params"], state["batch_stats"]
    outputs, means, variances = [], [], []
    for start in range(0, len(x), v):
        group = x[start : start + v]
        flat = group.reshape(-1, group.shape[-1])
        mean, var = flat.mean(axis=0), flat.var(axis=0)
        normed = (group - mean) / np.sqrt(var + epsilon)
        outputs.append(normed * params["scale"] + params["bias"])
        means.append(mean)
        variances.append(var)
    new = [np.mean(values, axis=0) for values in (means, variances)]
    old = [stats["mean"], stats["var"]]
    running = [momentum * o + (1 - momentum) * n for o, n in zip(old, new, strict=True)]
    return np.concatenate(outputs), *running


@pytest.mark.parametrize("shape", [(8, 5), (8, 3, 5), (8, 4, 3, 5), (8, 2, 3, 2, 5)])
@pytest.mark.parametrize("v", [2, 4, None])
def test_batch_norm_by_groups(shape, v):
    x = np.random.default_rng(1).normal(3, 2, shape).astype(np.float32)
    state = variables(5)
    y, updated = BatchNorm(v).apply(state, x, train=True, mutable=["batch_stats"])
    expected, mean, var = reference_batch_norm(x, v or 8, state)
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=2e-4)
    np.testing.assert_allclose(updated["batch_stats"]["mean"], mean, rtol=1e-5)
    np.testing.assert_allclose(updated["batch_stats"]["var"], var, rtol=1e-5)


@pytest.mark.parametrize(("mean", "deviation"), [(10, 0.01), (100, 0.01), (1e4, 0.1)])
@pytest.mark.parametrize("v", [4, None])
def test_batch_norm_of_close_values_far_from_zero(mean, deviation, v):
    x = np.random.default_rng(1).normal(mean, deviation, (8, 4, 3, 5)).astype(np.float32)
    state, apply = variables(5), jax.jit(BatchNorm(v).apply, static_argnames=("train", "mutable"))
    y, updated = apply(state, x, train=True, mutable=("batch_stats",))
    expected, mean, var = reference_batch_norm(x, v or 8, state)
    np.testing.assert_allclose(y, expected, rtol=0, atol=2e-5)
    np.testing.assert_allclose(updated["batch_stats"]["mean"], mean, rtol=1e-6)
    np.testing.assert_allclose(updated["batch_stats"]["var"], var, rtol=1e-5)


def test_batch_norm_in_one_pass():
    """Runs that version 0.1 began keep its form: exact beside a small mean alone."""
    state, exact = variables(5), {}
    for mean, deviation in ((1, 1), (100, 0.01)):
        x = np.random.default_rng(1).normal(mean, deviation, (8, 4, 3, 5)).astype(np.float32)
        with batch_norm_mode(BatchNormMode(one_pass=True)):
            y, _ = BatchNorm(4).apply(state, x, train=True, mutable=["batch_stats"])
        error = np.abs(y - reference_batch_norm(x, 4, state)[0]).max()
        exact[mean] = error < 1e-5
    assert exact == {1: True, 100: False}


def test_batch_norm_of_one_group_equals_flax():
    x = jnp.asarray(np.random.default_rng(2).normal(1, 2, (6, 4, 4, 5)), jnp.float32)
    weights = jnp.cos(jnp.arange(x.size, dtype=jnp.float32)).reshape(x.shape)
    state = variables(5)

    def ours(params, x):
        layer = BatchNorm(6)
        y, new = layer.apply({**state, "params": params}, x, train=True, mutable=["batch_stats"])
        return jnp.sum(y * weights), new

    def flax(params, x):
        layer = nn.BatchNorm(use_running_average=False, momentum=0.9)
        y, new = layer.apply({**state, "params": params}, x, mutable=["batch_stats"])
        return jnp.sum(y * weights), new

    results = [
        jax.value_and_grad(f, (0, 1), has_aux=True)(state["params"], x) for f in (ours, flax)
    ]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), *results)


def test_batch_norm_groups_are_independent():
    x = jnp.asarray(np.random.default_rng(3).normal(size=(8, 3)), jnp.float32)
    state = variables(3)
    apply = lambda x: BatchNorm(4).apply(state, x, train=True, mutable=["batch_stats"])[0]  # noqa: E731
    gradient = jax.grad(lambda x: jnp.sum(apply(x)[:4] ** 3))(x)
    assert jnp.abs(gradient[:4]).max() > 1e-3
    np.testing.assert_array_equal(gradient[4:], 0)


def test_batch_norm_in_evaluation_and_initialization():
    x = np.random.default_rng(4).normal(size=(3, 5)).astype(np.float32)
    state = variables(5)
    y = BatchNorm(2).apply(state, x, train=False)
    scale = state["params"]["scale"] / np.sqrt(state["batch_stats"]["var"] + 1e-5)
    expected = (x - state["batch_stats"]["mean"]) * scale + state["params"]["bias"]
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)

    fresh = BatchNorm(2, scale_init=nn.initializers.zeros).init(jax.random.key(0), x, train=True)
    np.testing.assert_array_equal(fresh["batch_stats"]["mean"], 0)
    np.testing.assert_array_equal(fresh["batch_stats"]["var"], 1)
    np.testing.assert_array_equal(fresh["params"]["scale"], 0)


def test_batch_norm_in_bfloat16_has_float32_statistics():
    x = jnp.asarray(np.random.default_rng(5).normal(20, 1, (64, 8, 8, 3)), jnp.bfloat16)
    state = variables(3)
    layer = BatchNorm(32, dtype=jnp.bfloat16)
    y, updated = layer.apply(state, x, train=True, mutable=["batch_stats"])
    expected, mean, var = reference_batch_norm(x.astype(jnp.float32), 32, state)
    assert y.dtype == jnp.bfloat16
    np.testing.assert_allclose(y.astype(jnp.float32), expected, rtol=1e-2, atol=1e-2)
    np.testing.assert_allclose(updated["batch_stats"]["mean"], mean, rtol=1e-5)
    np.testing.assert_allclose(updated["batch_stats"]["var"], var, rtol=1e-3)


def test_batch_norm_rejects_an_indivisible_batch():
    with pytest.raises(ConfigError, match="batch of 6 .* virtual_batch_size=4"):
        BatchNorm(4).apply(variables(3), jnp.zeros((6, 3)), train=True, mutable=["batch_stats"])


@pytest.mark.parametrize(("shape", "v"), [((4, 3), 1), ((1, 3), None), ((4, 1, 1, 3), 1)])
def test_batch_norm_rejects_groups_of_one_value(shape, v):
    apply = functools.partial(BatchNorm(v).apply, variables(3), jnp.ones(shape))
    with pytest.raises(ConfigError, match="each group has one value per channel"):
        apply(train=True, mutable=["batch_stats"])
    assert apply(train=False).shape == shape


@pytest.mark.parametrize(("shape", "v"), [((4, 3), 2), ((4, 1, 2, 3), 1)])
def test_batch_norm_of_groups_of_two_values(shape, v):
    x = np.random.default_rng(6).normal(size=shape).astype(np.float32)
    y, _ = BatchNorm(v).apply(variables(3), x, train=True, mutable=["batch_stats"])
    np.testing.assert_allclose(y, reference_batch_norm(x, v, variables(3))[0], atol=1e-5)


def test_drop_path_drops_examples_and_keeps_the_mean():
    x = jnp.ones((4000, 2, 3), jnp.bfloat16)
    y = DropPath(0.25).apply({}, x, train=True, rngs={"dropout": jax.random.key(0)})
    assert y.dtype == jnp.bfloat16
    kept = np.asarray(y[:, 0, 0] != 0)
    expected = np.where(kept, jnp.asarray(1 / 0.75, jnp.bfloat16).astype(jnp.float32), 0)
    np.testing.assert_array_equal(y.astype(jnp.float32), expected[:, None, None] * np.ones((2, 3)))
    # Within five standard deviations of the mean of 4,000 draws.
    assert abs(kept.mean() - 0.75) < 5 * np.sqrt(0.75 * 0.25 / 4000)


def test_drop_path_is_deterministic_in_the_rng():
    x = jnp.ones((64, 3))
    drop = lambda seed: DropPath(0.5).apply({}, x, train=True, rngs={"dropout": seed})  # noqa: E731
    np.testing.assert_array_equal(drop(jax.random.key(1)), drop(jax.random.key(1)))
    assert (drop(jax.random.key(1)) != drop(jax.random.key(2))).any()


def test_drop_path_off():
    x = jnp.ones((4, 3))
    assert DropPath(0.5).apply({}, x, train=False) is x
    assert DropPath(0.0).apply({}, x, train=True) is x
    with pytest.raises(ConfigError, match="drop_path is 1.0"):
        DropPath(1.0).apply({}, x, train=False)


def test_drop_path_rates():
    np.testing.assert_allclose(drop_path_rates(0.3, 4), [0, 0.1, 0.2, 0.3])
    assert drop_path_rates(0.3, 1) == [0.0]


def test_layer_scale():
    layer = LayerScale(1e-4, dtype=jnp.bfloat16)
    y, state = layer.init_with_output(jax.random.key(0), jnp.ones((2, 3)))
    assert y.dtype == jnp.bfloat16 and state["params"]["gamma"].dtype == jnp.float32
    np.testing.assert_array_equal(state["params"]["gamma"], np.full(3, 1e-4, np.float32))
