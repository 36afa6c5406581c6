"""Attention in the form that the platform computes fastest; the values are the same.

XLA's CPU backend neither fuses the softmax's gradient nor likes the heads in the middle of the
shape. Other platforms take JAX's own function.
"""

import jax
import jax.numpy as jnp


def attend(query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
    """softmax(Q K^T / sqrt(d)) V of every head (Vaswani et al. 2017, arXiv:1706.03762, eq. 1).

    Args:
      query, key, value: `[B, N, heads, d]`.

    Returns:
      `[B, N, heads, d]`; the softmax is float32.
    """
    if jax.default_backend() != "cpu" or query.dtype != jnp.float32:
        return jax.nn.dot_product_attention(query, key, value)
    heads_first = (x.transpose(0, 2, 1, 3) for x in (query, key, value))
    return _attend(*heads_first).transpose(0, 2, 1, 3)


@jax.custom_vjp
def _attend(query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
    """The same of `[B, heads, N, d]`."""
    return _forward(query, key, value)[0]


def _forward(query, key, value):
    query = query * query.shape[-1] ** -0.5
    scores = jnp.einsum("bhqd,bhkd->bhqk", query, key)
    # Normalised after the product with V: a pass over [N, d] in place of one over [N, N].
    weights = jnp.exp(scores - jnp.max(scores, axis=-1, keepdims=True))
    scale = 1.0 / jnp.sum(weights, axis=-1, keepdims=True)
    out = jnp.einsum("bhqk,bhkd->bhqd", weights, value) * scale
    return out, (query, key, value, weights, scale, out)


def _backward(kept, grad):
    """The softmax's by the rows' sums of grad * out (Dao et al. 2022, arXiv:2205.14135, B.2)."""
    query, key, value, weights, scale, out = kept
    grad = grad * scale
    d_value = jnp.einsum("bhqk,bhqd->bhkd", weights, grad)
    d_weights = jnp.einsum("bhqd,bhkd->bhqk", grad, value)
    d_scores = weights * (d_weights - jnp.sum(grad * out, axis=-1, keepdims=True))
    d_query = jnp.einsum("bhqk,bhkd->bhqd", d_scores, key) * query.shape[-1] ** -0.5
    return d_query, jnp.einsum("bhqk,bhqd->bhkd", d_scores, query), d_value


_attend.defvjp(_forward, _backward)
