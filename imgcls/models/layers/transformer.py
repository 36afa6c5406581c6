"""Layers of Vision Transformers.

Kernels are shaped for tensor parallelism: `attn/qkv` `[D, 3, heads, head_dim]`, `attn/proj`
`[heads, head_dim, D]`, `mlp/fc1` `[D, M]`, `mlp/fc2` `[M, D]`.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from imgcls.models.layers.attention import attend
from imgcls.models.layers.base import EXPLAIN, is_explained
from imgcls.models.layers.operations import LayerNorm, dot_general, gelu, is_fast
from imgcls.models.layers.residual import DropPath, LayerScale

# The exact GELU, and its approximation in OpenAI's CLIP (Hendrycks & Gimpel 2016, arXiv:1606.08415,
# section 2).
ACTIVATIONS = ("gelu", "quick_gelu")

_xavier = nn.initializers.xavier_uniform()
# Query, key and value share a kernel with three times the outputs, but each is initialized as its
# own square matrix: doubling the variance corrects the larger fan.
_xavier_qkv = nn.initializers.variance_scaling(2.0, "fan_avg", "uniform")
_xavier_kv = nn.initializers.variance_scaling(1.5, "fan_avg", "uniform")


class Attention(nn.Module):
    """Multi-head self-attention (Vaswani et al. 2017, arXiv:1706.03762); the softmax is float32.

    Attributes:
      num_heads: number of heads; must divide D.
      implementation: see `imgcls.models.layers.attention.attend`.
      dtype: of the computation.
    """

    num_heads: int
    implementation: str
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """x `[B, N, D]` -> `[B, N, D]`."""
        width = x.shape[-1]
        dense = functools.partial(nn.DenseGeneral, dtype=self.dtype, dot_general=dot_general)
        heads = (self.num_heads, width // self.num_heads)
        qkv = dense((3, *heads), kernel_init=_xavier_qkv, name="qkv")(x)
        if is_explained(self):
            self.put_variable(EXPLAIN, "attention", attention_weights(qkv[:, :, 0], qkv[:, :, 1]))
        x = attend(qkv, train=train, implementation=self.implementation)
        return dense(width, axis=(-2, -1), kernel_init=_xavier, name="proj")(x)


def attention_weights(query: jax.Array, key: jax.Array) -> jax.Array:
    """Attention weights, float32 `[B, heads, N, N]`, of query and key `[B, N, heads, head_dim]`."""
    query, key = (x.astype(jnp.float32) for x in (query, key))
    scores = jnp.einsum("bqhd,bkhd->bhqk", query, key) * query.shape[-1] ** -0.5
    return jax.nn.softmax(scores, axis=-1)


class Mlp(nn.Module):
    """Two dense layers with a GELU between them.

    Attributes:
      hidden: width between the layers.
      drop_rate: dropout rate after the GELU.
      dtype: of the computation.
      activation: see `ACTIVATIONS`.
    """

    hidden: int
    drop_rate: float
    dtype: jnp.dtype
    activation: str = "gelu"

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """x `[B, N, D]` -> `[B, N, D]`."""
        width = x.shape[-1]
        dense = functools.partial(
            nn.Dense,
            kernel_init=_xavier,
            bias_init=nn.initializers.normal(1e-6),
            dtype=self.dtype,
            dot_general=dot_general,
        )
        x = dense(self.hidden, name="fc1")(x)
        if self.activation == "quick_gelu":
            x = x * nn.sigmoid(1.702 * x)
        else:
            x = gelu(x) if train and is_fast(x) else nn.gelu(x, approximate=False)
        x = nn.Dropout(self.drop_rate, deterministic=not train)(x)
        return dense(width, name="fc2")(x)


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)).

    Attributes:
      num_heads: attention heads.
      mlp_dim: hidden width of the MLP.
      drop_rate: dropout rate of both branches.
      drop_path: stochastic depth rate of both branches.
      layer_scale: initial value of LayerScale on both branches; None: no LayerScale.
      dtype: dtype of the computation.
      attention: see `imgcls.models.layers.attention.attend`.
      activation: see `ACTIVATIONS`.
      epsilon: of both norms.
    """

    num_heads: int
    mlp_dim: int
    drop_rate: float
    drop_path: float
    layer_scale: float | None
    dtype: jnp.dtype
    attention: str = "auto"
    activation: str = "gelu"
    epsilon: float = 1e-6

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """x `[B, N, D]` -> `[B, N, D]`. `train` is positional for `nn.remat`."""
        branch = LayerNorm(self.epsilon, self.dtype, name="norm1")(x, train=train)
        branch = Attention(self.num_heads, self.attention, self.dtype, name="attn")(
            branch, train=train
        )
        x = x + self._regularize(branch, "ls1", train)
        branch = LayerNorm(self.epsilon, self.dtype, name="norm2")(x, train=train)
        mlp = Mlp(self.mlp_dim, self.drop_rate, self.dtype, self.activation, name="mlp")
        branch = mlp(branch, train=train)
        return x + self._regularize(branch, "ls2", train)

    def _regularize(self, branch: jax.Array, scale_name: str, train: bool) -> jax.Array:
        branch = nn.Dropout(self.drop_rate, deterministic=not train)(branch)
        if self.layer_scale is not None:
            branch = LayerScale(self.layer_scale, self.dtype, name=scale_name)(branch)
        return DropPath(self.drop_path)(branch, train=train)


class AttentionPool(nn.Module):
    """Multi-head attention of one learned query to all tokens, then x + mlp(norm(x)).

    Zhai et al. 2021, arXiv:2106.04560, section 3.2 (there "MAP"); the head of SigLIP.

    Attributes:
      num_heads: number of heads; must divide D.
      mlp_dim: hidden width of the MLP.
      dtype: of the computation.
      activation: see `ACTIVATIONS`.
      epsilon: of the norm.
    """

    num_heads: int
    mlp_dim: int
    dtype: jnp.dtype
    activation: str = "gelu"
    epsilon: float = 1e-6

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """x `[B, N, D]` -> `[B, D]`."""
        width = x.shape[-1]
        dense = functools.partial(nn.DenseGeneral, dtype=self.dtype, dot_general=dot_general)
        heads = (self.num_heads, width // self.num_heads)
        latent = self.param("latent", _xavier, (1, 1, width), jnp.float32)
        query = dense(heads, axis=-1, kernel_init=_xavier, name="q")(latent)
        key_value = dense((2, *heads), kernel_init=_xavier_kv, name="kv")(x)
        key, value = key_value[:, :, 0], key_value[:, :, 1]
        query = jnp.broadcast_to(query, (len(x), *query.shape[1:]))
        if is_explained(self):
            self.put_variable(EXPLAIN, "attention", attention_weights(query, key))
        x = jax.nn.dot_product_attention(query, key, value)
        x = dense(width, axis=(-2, -1), kernel_init=_xavier, name="proj")(x)
        branch = LayerNorm(self.epsilon, self.dtype, name="norm")(x, train=train)
        mlp = Mlp(self.mlp_dim, 0.0, self.dtype, self.activation, name="mlp")
        return (x + mlp(branch, train=train))[:, 0]
