"""The masked mean."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imgcls.losses.common import masked_mean


def test_masked_mean():
    values = jnp.array([1.0, 2.0, 6.0])
    assert masked_mean(values) == 3.0
    assert masked_mean(values, jnp.array([1, 0, 1])) == 3.5
    assert masked_mean(values, jnp.zeros(3)) == 0.0
    assert masked_mean(values.astype(jnp.bfloat16), jnp.ones(3)).dtype == jnp.float32


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_masked_mean_ignores_nonfinite_padding(bad):
    values, mask = jnp.array([1.0, bad, 3.0]), jnp.array([1.0, 0.0, 1.0])
    mean, gradient = jax.value_and_grad(masked_mean)(values, mask)
    assert mean == 2.0
    np.testing.assert_array_equal(gradient, [0.5, 0.0, 0.5])


def test_masked_mean_propagates_nan_of_examples():
    assert jnp.isnan(masked_mean(jnp.array([1.0, jnp.nan]), jnp.ones(2)))
