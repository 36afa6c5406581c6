"""Attention against a float64 NumPy loop, and its gradients against JAX's own function."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imgcls.models.attention import attend


def draw(shape=(2, 7, 3, 5), scale=1.0):
    rng = np.random.default_rng(0)
    return [jnp.asarray(scale * rng.normal(size=shape), jnp.float32) for _ in range(4)]


def by_hand(query, key, value):
    query, key, value = (np.asarray(x, np.float64) for x in (query, key, value))
    out = np.empty_like(query)
    for b in range(query.shape[0]):
        for h in range(query.shape[2]):
            scores = query[b, :, h] @ key[b, :, h].T / np.sqrt(query.shape[-1])
            weights = np.exp(scores - scores.max(1, keepdims=True))
            out[b, :, h] = weights / weights.sum(1, keepdims=True) @ value[b, :, h]
    return out


@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_values(scale):
    query, key, value, _ = draw(scale=scale)
    out = attend(query, key, value)
    np.testing.assert_allclose(out, by_hand(query, key, value), rtol=1e-4, atol=1e-5 * scale)


@pytest.mark.parametrize("scale", [1.0, 5.0])
def test_gradients(scale):
    query, key, value, weights = draw(scale=scale)

    def gradients(fn):
        return jax.grad(lambda *args: jnp.sum(fn(*args) * weights), (0, 1, 2))(query, key, value)

    expected = gradients(jax.nn.dot_product_attention)
    for ours, theirs in zip(gradients(attend), expected, strict=True):
        np.testing.assert_allclose(
            ours, theirs, rtol=2e-4, atol=1e-4 * float(jnp.abs(theirs).max())
        )


def test_half_precision_is_left_to_jax():
    query, key, value, _ = (x.astype(jnp.bfloat16) for x in draw())
    np.testing.assert_array_equal(
        attend(query, key, value), jax.nn.dot_product_attention(query, key, value)
    )
