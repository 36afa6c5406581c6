"""Attention in the fastest form for the platform; the values are the same up to rounding.

XLA's CPU backend does not fuse the gradient of the softmax, and is slow with the heads in the
middle of the shape. GPUs have fused cuDNN kernels for half precision. Otherwise
`jax.nn.dot_product_attention` is used.
"""

import itertools

import jax
import jax.numpy as jnp
from einops import rearrange

from imgcls.core.errors import ConfigError
from imgcls.models.layers.operations import is_fast

IMPLEMENTATIONS = ("auto", "xla", "cudnn")
# On a CPU, attention is computed for groups of images whose scores fit into the cache; every group
# makes the program longer.
GROUP_BYTES = 2**20
MAX_GROUPS = 8


def attend(qkv: jax.Array, *, train: bool, implementation: str = "auto") -> jax.Array:
    """softmax(Q K^T / sqrt(d)) V of every head (Vaswani et al. 2017, arXiv:1706.03762, eq. 1).

    Args:
      qkv: queries, keys and values, `[B, N, 3, heads, d]`.
      train: whether gradients are needed; evaluation uses JAX's form, which can be exported.
      implementation: "cudnn" (fused kernel of NVIDIA GPUs, half precision), "xla", or "auto"
        ("cudnn" if available, otherwise "xla").

    Returns:
      `[B, N, heads, d]`; the softmax is float32.

    Raises:
      ConfigError: unknown implementation, or cuDNN does not support the platform, shape or dtype.
    """
    if implementation not in IMPLEMENTATIONS:
        choices = ", ".join(map(repr, IMPLEMENTATIONS))
        raise ConfigError(f"model.attention={implementation!r}: write one of {choices}")
    if train and implementation != "cudnn" and is_fast(qkv):
        return _attend(qkv)
    query, key, value = (qkv[:, :, index] for index in range(3))
    if implementation == "cudnn" or (implementation == "auto" and _is_for_cudnn(qkv)):
        try:
            return jax.nn.dot_product_attention(query, key, value, implementation="cudnn")
        except (NotImplementedError, RuntimeError, ValueError) as e:
            if implementation == "cudnn":
                raise ConfigError(f"model.attention='cudnn': {e}; write 'auto' or 'xla'") from e
    return jax.nn.dot_product_attention(query, key, value)


def _is_for_cudnn(qkv: jax.Array) -> bool:
    return jax.default_backend() == "gpu" and qkv.dtype in (jnp.bfloat16, jnp.float16)


@jax.custom_vjp
def _attend(qkv: jax.Array) -> jax.Array:
    return _forward_in_groups(qkv)[0]


def _forward_in_groups(qkv):
    outs, residuals = zip(*map(_forward, _split(qkv, _count_groups(qkv))), strict=True)
    return jnp.concatenate(outs), residuals


def _backward_in_groups(residuals, grad):
    pairs = zip(residuals, _split(grad, len(residuals)), strict=True)
    return (jnp.concatenate([_backward(*pair) for pair in pairs]),)


_attend.defvjp(_forward_in_groups, _backward_in_groups)


def _count_groups(qkv: jax.Array) -> int:
    """Number of groups of images; one on several devices, where groups would split shards."""
    if jax.device_count() > 1:
        return 1
    batch, tokens, _, heads, _ = qkv.shape
    scores = batch * heads * tokens**2 * qkv.dtype.itemsize
    return max(1, min(batch, MAX_GROUPS, scores // GROUP_BYTES))


def _split(x: jax.Array, groups: int) -> list[jax.Array]:
    """Splits x `[B, ...]` into `groups` parts whose sizes differ by at most one."""
    bounds = [index * len(x) // groups for index in range(groups + 1)]
    return [x[start:stop] for start, stop in itertools.pairwise(bounds)]


def _swap_heads(x: jax.Array) -> jax.Array:
    """`[B, N, H, D]` -> `[B, H, N, D]`, and the reverse."""
    return rearrange(x, "b n h d -> b h n d")


def _forward(qkv):
    query, key, value = (_swap_heads(qkv[:, :, index]) for index in range(3))
    query = query * query.shape[-1] ** -0.5
    scores = jnp.einsum("bhqd,bhkd->bhqk", query, key)
    # Normalized after the product with V: a pass over [N, d] instead of one over [N, N].
    weights = jnp.exp(scores - jnp.max(scores, axis=-1, keepdims=True))
    scale = 1.0 / jnp.sum(weights, axis=-1, keepdims=True)
    out = jnp.einsum("bhqk,bhkd->bhqd", weights, value) * scale
    return _swap_heads(out), (query, key, value, weights, scale, out)


def _backward(residuals, grad):
    """The gradient of the softmax uses row sums of grad * out (Dao et al. 2022, arXiv:2205.14135,
    appendix B.2)."""
    query, key, value, weights, scale, out = residuals
    grad = _swap_heads(grad) * scale
    d_value = jnp.einsum("bhqk,bhqd->bhkd", weights, grad)
    d_weights = jnp.einsum("bhqd,bhkd->bhqk", grad, value)
    d_scores = weights * (d_weights - jnp.sum(grad * out, axis=-1, keepdims=True))
    d_query = jnp.einsum("bhqk,bhkd->bhqd", d_scores, key) * query.shape[-1] ** -0.5
    d_key = jnp.einsum("bhqk,bhqd->bhkd", d_scores, query)
    return jnp.stack([_swap_heads(x) for x in (d_query, d_key, d_value)], axis=2)
