"""Helpers of the loss tests: compare a loss with its reference in every dtype."""

import jax
import jax.numpy as jnp
import numpy as np


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def squared_distance(a, b):
    return sum((x - y) ** 2 for x, y in zip(a, b, strict=True))


def check(loss, reference, *arrays, **options):
    """Checks a loss against its reference in bfloat16 (output float32), float32 and float64."""
    static = [name for name, value in options.items() if isinstance(value, str | bool)]

    def compare(dtype, rtol):
        inputs = [x if x.dtype.kind in "iub" else jnp.asarray(x, dtype) for x in arrays]
        exact = [x if x.dtype.kind in "iub" else np.asarray(x, np.float64) for x in inputs]
        actual = jax.jit(loss, static_argnames=static)(*inputs, **options)
        expected = reference(*exact, **options)
        if isinstance(actual, tuple):
            assert actual[1].dtype == jnp.float32
            np.testing.assert_array_equal(actual[1], expected[1])
            actual, expected = actual[0], expected[0]
        assert actual.dtype == (jnp.float64 if dtype == jnp.float64 else jnp.float32)
        # A difference close to 0 keeps the rounding errors of its terms.
        np.testing.assert_allclose(actual, expected, rtol=rtol, atol=rtol * max(expected))

    compare(jnp.bfloat16, 1e-5)
    compare(jnp.float32, 1e-5)
    with jax.enable_x64(True):
        compare(jnp.float64, 1e-10)
