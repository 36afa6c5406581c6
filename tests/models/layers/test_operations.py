"""Values and gradients of the fast CPU operations against the plain ones."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from scipy import stats

from imgcls.models.layers.operations import LayerNorm, dot_general, gelu


def draw(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def assert_close(ours, theirs, tolerance=1e-5):
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        a, b = np.float32(a), np.float32(b)
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * np.abs(b).max())


def gradients(fn, *args):
    """Gradients of a weighted sum of the output of fn."""

    def weighted(*args):
        out = fn(*args)
        return jnp.sum(out * draw(*out.shape, seed=1))

    return jax.grad(weighted, tuple(range(len(args))))(*args)


def test_gelu_matches_scipy():
    x = np.linspace(-8, 8, 401)
    expected = x * stats.norm.cdf(x)
    np.testing.assert_allclose(gelu(jnp.float32(x)), expected, rtol=1e-6, atol=2e-6)
    slope = stats.norm.cdf(x) + x * stats.norm.pdf(x)
    ours = jax.vmap(jax.grad(gelu))(jnp.float32(x))
    np.testing.assert_allclose(ours, slope, rtol=1e-6, atol=2e-6)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_layer_norm_matches_flax(dtype):
    x = (2 + 3 * draw(4, 5, 12)).astype(dtype)
    flax, ours = nn.LayerNorm(epsilon=1e-6, dtype=dtype), LayerNorm(dtype=dtype)
    params = flax.init(jax.random.key(0), x)
    assert jax.tree.structure(params) == jax.tree.structure(
        ours.init(jax.random.key(0), x, train=True)
    )
    params = jax.tree.map(lambda p: p + draw(12), params)
    expected = flax.apply(params, x)
    np.testing.assert_array_equal(ours.apply(params, x, train=False), expected)
    assert ours.apply(params, x, train=True).dtype == dtype
    assert_close(
        gradients(lambda p, x: ours.apply(p, x, train=True).astype(jnp.float32), params, x),
        gradients(lambda p, x: flax.apply(p, x).astype(jnp.float32), params, x),
        # flax adds two gradients that are already rounded.
        1e-5 if dtype == jnp.float32 else 2**-7,
    )


@pytest.mark.parametrize(
    "x, kernel, axes",
    [
        ((3, 4, 5), (5, 2, 3, 4), 1),
        ((3, 4, 2, 3), (2, 3, 5), 2),
        ((7, 4), (4, 9), 1),
        ((7, 9), (9, 2, 3), 1),
        ((3, 4, 2, 5), (2, 5, 3, 2), 2),
    ],
)
def test_dot_general_matches_lax(x, kernel, axes):
    x, kernel = draw(*x), draw(*kernel, seed=2)
    summed = (tuple(range(x.ndim - axes, x.ndim)), tuple(range(axes)))
    dimensions = (summed, ((), ()))
    assert_close(dot_general(x, kernel, dimensions), lax.dot_general(x, kernel, dimensions))
    assert_close(
        gradients(lambda x, k: dot_general(x, k, dimensions), x, kernel),
        gradients(lambda x, k: lax.dot_general(x, k, dimensions), x, kernel),
    )
