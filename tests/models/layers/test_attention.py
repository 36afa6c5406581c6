"""Attention against a float64 NumPy loop, and its gradients against those of JAX."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imgcls.core.errors import ConfigError
from imgcls.models.layers import attention
from imgcls.models.layers.attention import attend


def draw(shape=(2, 7, 3, 3, 5), scale=1.0, dtype=jnp.float32):
    """Queries, keys and values `[B, N, 3, heads, d]`, and weights of the output."""
    rng = np.random.default_rng(0)
    qkv = jnp.asarray(scale * rng.normal(size=shape), dtype)
    return qkv, jnp.asarray(rng.normal(size=(*shape[:2], *shape[3:])), dtype)


def plain(qkv):
    return jax.nn.dot_product_attention(*(qkv[:, :, index] for index in range(3)))


def by_hand(qkv):
    query, key, value = np.moveaxis(np.asarray(qkv, np.float64), 2, 0)
    out = np.empty_like(query)
    for b in range(query.shape[0]):
        for h in range(query.shape[2]):
            scores = query[b, :, h] @ key[b, :, h].T / np.sqrt(query.shape[-1])
            weights = np.exp(scores - scores.max(1, keepdims=True))
            out[b, :, h] = weights / weights.sum(1, keepdims=True) @ value[b, :, h]
    return out


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_values_match_numpy(scale, train):
    qkv, _ = draw(scale=scale)
    out = attend(qkv, train=train)
    np.testing.assert_allclose(out, by_hand(qkv), rtol=1e-4, atol=1e-5 * scale)


@pytest.mark.parametrize("scale", [1.0, 5.0])
def test_gradients_match_jax(scale):
    qkv, weights = draw(scale=scale)
    ours = jax.grad(lambda qkv: jnp.sum(attend(qkv, train=True) * weights))(qkv)
    theirs = jax.grad(lambda qkv: jnp.sum(plain(qkv) * weights))(qkv)
    np.testing.assert_allclose(ours, theirs, rtol=2e-4, atol=1e-4 * float(jnp.abs(theirs).max()))


@pytest.mark.parametrize("group_bytes, groups", [(2**20, 1), (1500, 3), (1, 7)])
def test_batch_in_groups(group_bytes, groups, monkeypatch):
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    monkeypatch.setattr(attention, "GROUP_BYTES", group_bytes)
    monkeypatch.setattr(attention, "MAX_GROUPS", 7)
    calls = []
    forward = attention._forward
    monkeypatch.setattr(attention, "_forward", lambda qkv: calls.append(len(qkv)) or forward(qkv))
    qkv, weights = draw((8, 7, 3, 3, 5))
    np.testing.assert_allclose(attend(qkv, train=True), by_hand(qkv), rtol=1e-4, atol=1e-5)
    assert len(calls) == groups and sum(calls) == 8
    ours = jax.grad(lambda qkv: jnp.sum(attend(qkv, train=True) * weights))(qkv)
    theirs = jax.grad(lambda qkv: jnp.sum(plain(qkv) * weights))(qkv)
    np.testing.assert_allclose(ours, theirs, rtol=2e-4, atol=1e-4 * float(jnp.abs(theirs).max()))


def test_half_precision_uses_jax():
    qkv, _ = draw(dtype=jnp.bfloat16)
    np.testing.assert_array_equal(attend(qkv, train=True), plain(qkv))


def test_choice_of_implementation(monkeypatch):
    qkv, _ = draw(dtype=jnp.bfloat16)
    with pytest.raises(ConfigError, match=r"model.attention='flash': write one of 'auto'"):
        attend(qkv, train=True, implementation="flash")
    with pytest.raises(ConfigError, match=r"model.attention='cudnn': .*write 'auto' or 'xla'"):
        attend(qkv, train=True, implementation="cudnn")
    # On a GPU, cuDNN is tried first for half precision; if it fails, XLA is used.
    tried = []

    def refuse(*args, implementation=None):
        tried.append(implementation)
        if implementation == "cudnn":
            raise NotImplementedError
        return args[0]

    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(jax.nn, "dot_product_attention", refuse)
    attend(qkv, train=True)
    attend(qkv, train=True, implementation="xla")
    attend(qkv.astype(jnp.float32), train=True)
    assert tried == ["cudnn", None, None, None]
