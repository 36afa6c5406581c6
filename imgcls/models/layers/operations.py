"""What a Transformer is made of, in the form that XLA's CPU backend computes fastest in training.

On a CPU the step is bound by its matrix products and by passes over memory: each function here has
a gradient that saves such passes. The values are the same up to rounding. Other platforms and
dtypes take the plain forms, and so does evaluation, which other programs can then read from an
exported model.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

# XLA's CPU backend has two libraries for matrix products. YNNPACK, its default, is the slower one
# for the many small products of attention; for convolutions and sums it stays.
PRODUCTS_BY_EIGEN = {
    "xla_cpu_experimental_ynn_fusion_type": (
        "LIBRARY_FUSION_TYPE_INDIVIDUAL_CONVOLUTION,LIBRARY_FUSION_TYPE_REDUCE"
    )
}


def is_fast(x: jax.Array) -> bool:
    """Whether the forms of this file are for arrays like x."""
    return jax.default_backend() == "cpu" and x.dtype == jnp.float32


def dot_general(x: jax.Array, kernel: jax.Array, dimensions, precision=None, **options):
    """`lax.dot_general` for `nn.Dense(..., dot_general=dot_general)` and `nn.DenseGeneral`.

    The gradient of the kernel is a product over all tokens, for which XLA transposes its first
    factor in memory: here that is the narrower one.

    Args:
      x: `[..., *inputs]`.
      kernel: `[*inputs, *outputs]`.
      dimensions: the axes that are summed over, and no batch axes.
      precision, **options: of `lax.dot_general`.

    Returns:
      `[..., *outputs]`.
    """
    if is_fast(x) and is_fast(kernel):
        return _product(x, kernel, len(dimensions[0][1]))
    return lax.dot_general(x, kernel, dimensions, precision=precision, **options)


@jax.custom_vjp
def gelu(x: jax.Array) -> jax.Array:
    """x Phi(x) (Hendrycks & Gimpel 2016, arXiv:1606.08415), by erf: to 1e-6 of |x|."""
    return _gelu_forward(x)[0]


def _gelu_forward(x):
    below = 0.5 + 0.5 * lax.erf(x * math.sqrt(0.5))
    return x * below, (x, below)


def _gelu_backward(kept, grad):
    x, below = kept
    density = jnp.exp(-0.5 * jnp.square(x)) * (1 / math.sqrt(2 * math.pi))
    return (grad * (below + x * density),)


gelu.defvjp(_gelu_forward, _gelu_backward)


class LayerNorm(nn.Module):
    """Layer normalisation over the last axis (Ba et al. 2016, arXiv:1607.06450, eq. 4).

    The same numbers as `nn.LayerNorm`.

    Attributes:
      epsilon: added to the variance.
      dtype: of the output. Statistics and parameters are float32.
    """

    epsilon: float = 1e-6
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """x `[B, N, D]` -> the same shape."""
        scale = self.param("scale", nn.initializers.ones, x.shape[-1:], jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, x.shape[-1:], jnp.float32)
        if train and is_fast(x):
            return _layer_norm(x, scale, bias, self.epsilon)
        return _layer_norm_forward(x, scale, bias, self.epsilon)[0].astype(self.dtype)


def _layer_norm_forward(x, scale, bias, epsilon):
    x = x.astype(jnp.float32)
    mean = jnp.mean(x, -1, keepdims=True)
    var = jnp.maximum(jnp.mean(jnp.square(x), -1, keepdims=True) - jnp.square(mean), 0.0)
    inverse = lax.rsqrt(var + epsilon)
    return (x - mean) * (inverse * scale) + bias, (x, mean, inverse, scale)


def _layer_norm_backward(epsilon, kept, grad):
    """All sums are products with a vector: XLA would write out what it broadcasts for a sum."""
    x, mean, inverse, scale = kept
    normal = (x - mean) * inverse
    grad_normal = grad * normal
    ones = jnp.ones(x.shape[:-1], x.dtype)
    mean_grad = (grad @ scale)[..., None] / x.shape[-1]
    mean_both = (grad_normal @ scale)[..., None] / x.shape[-1]
    d_x = inverse * (grad * scale - mean_grad - normal * mean_both)
    return d_x, jnp.tensordot(ones, grad_normal, ones.ndim), jnp.tensordot(ones, grad, ones.ndim)


_layer_norm = jax.custom_vjp(lambda *args: _layer_norm_forward(*args)[0], nondiff_argnums=(3,))
_layer_norm.defvjp(_layer_norm_forward, _layer_norm_backward)


def _product_forward(x, kernel, axes):
    inputs = tuple(range(x.ndim - axes, x.ndim))
    return lax.dot_general(x, kernel, ((inputs, tuple(range(axes))), ((), ()))), (x, kernel)


def _product_backward(axes, kept, grad):
    x, kernel = kept
    tokens = tuple(range(x.ndim - axes))
    outputs = tuple(range(axes, kernel.ndim))
    grad_outputs = tuple(range(len(tokens), grad.ndim))
    d_x = lax.dot_general(grad, kernel, ((grad_outputs, outputs), ((), ())))
    over_tokens = ((tokens, tokens), ((), ()))
    if math.prod(kernel.shape[axes:]) > math.prod(kernel.shape[:axes]):
        return d_x, lax.dot_general(x, grad, over_tokens)
    # `[*outputs, *inputs]`; without the barrier XLA would swap the factors.
    d_kernel = lax.optimization_barrier(lax.dot_general(grad, x, over_tokens))
    return d_x, jnp.moveaxis(d_kernel, range(len(outputs)), outputs)


_product = jax.custom_vjp(lambda *args: _product_forward(*args)[0], nondiff_argnums=(2,))
_product.defvjp(_product_forward, _product_backward)
