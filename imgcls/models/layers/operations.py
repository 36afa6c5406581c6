"""Operations of Transformers in the fastest form for training on XLA's CPU backend.

On a CPU, matrix products and passes over memory take most of a step: the gradients of these
functions save such passes. The values are the same up to rounding. Other platforms, other dtypes
and evaluation use the plain forms; those of evaluation can be exported.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

# XLA's CPU backend has two libraries for matrix products. YNNPACK, the default, is slower for the
# many small products of attention; these options use it only for convolutions and reductions.
PRODUCTS_BY_EIGEN = {
    "xla_cpu_experimental_ynn_fusion_type": (
        "LIBRARY_FUSION_TYPE_INDIVIDUAL_CONVOLUTION,LIBRARY_FUSION_TYPE_REDUCE"
    )
}


def is_fast(x: jax.Array) -> bool:
    """Whether the fast forms of this module apply to x: float32 on a CPU."""
    return jax.default_backend() == "cpu" and x.dtype == jnp.float32


def dot_general(x: jax.Array, kernel: jax.Array, dimensions, precision=None, **options):
    """`lax.dot_general` for `nn.Dense(..., dot_general=dot_general)` and `nn.DenseGeneral`.

    The gradient of the kernel is a product over all tokens, for which XLA transposes the first
    factor in memory; here the first factor is the narrower one.

    Args:
      x: `[..., *inputs]`.
      kernel: `[*inputs, *outputs]`.
      dimensions: axes that are summed over; there are no batch axes.
      precision, **options: arguments of `lax.dot_general`.

    Returns:
      `[..., *outputs]`.
    """
    if is_fast(x) and is_fast(kernel):
        return _product(x, kernel, len(dimensions[0][1]))
    return lax.dot_general(x, kernel, dimensions, precision=precision, **options)


@jax.custom_vjp
def gelu(x: jax.Array) -> jax.Array:
    """GELU, x Phi(x) (Hendrycks & Gimpel 2016, arXiv:1606.08415), by erf; accurate to 1e-6 |x|."""
    return _gelu_forward(x)[0]


def _gelu_forward(x):
    phi = 0.5 + 0.5 * lax.erf(x * math.sqrt(0.5))
    return x * phi, (x, phi)


def _gelu_backward(residuals, grad):
    x, phi = residuals
    density = jnp.exp(-0.5 * jnp.square(x)) * (1 / math.sqrt(2 * math.pi))
    return (grad * (phi + x * density),)


gelu.defvjp(_gelu_forward, _gelu_backward)


class LayerNorm(nn.Module):
    """Layer normalization over the last axis (Ba et al. 2016, arXiv:1607.06450, equation 4).

    Equal to `nn.LayerNorm`.

    Attributes:
      epsilon: added to the variance.
      dtype: dtype of the output. Statistics and parameters are float32.
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


def _layer_norm_backward(epsilon, residuals, grad):
    """Sums are products with a vector: for reductions XLA would write broadcasts to memory."""
    x, mean, inverse, scale = residuals
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


def _product_backward(axes, residuals, grad):
    x, kernel = residuals
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
