"""Convolutions in the fastest form for the platform; the values are the same.

XLA's CPU backend has no special case for 1x1 convolutions, which are two to four times slower than
matrix products, and more in the gradients. Convolutions over three axes are several times slower
than the same sum of convolutions over two, and with strides their gradients are more than a hundred
times slower (`bench/convolution.py`). Other platforms use XLA's convolutions.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from einops import rearrange
from jax import lax

# Volumes with at most so many channels are convolved with their slices stacked as channels.
_FEW_CHANNELS = 16
_DILATIONS = ("lhs_dilation", "rhs_dilation")


def convolve(
    x: jax.Array,
    kernel: jax.Array,
    strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    **options,
) -> jax.Array:
    """`lax.conv_general_dilated` for `nn.Conv(..., conv_general_dilated=convolve)`.

    Args:
      x: `[B, ..., C]`.
      kernel: `[..., C / groups, D]`.
      strides, padding: per spatial axis.
      **options: other arguments of `lax.conv_general_dilated`.

    Returns:
      `[B, ..., D]`.
    """
    if jax.default_backend() == "cpu":
        pointwise = all(side == 1 for side in kernel.shape[:-2])
        if pointwise and options["feature_group_count"] == 1 and not any(map(any, padding)):
            return _multiply(x, kernel, strides, options["precision"])
        dilated = any(factor != 1 for key in _DILATIONS for factor in options[key])
        if x.ndim == 5 and not dilated:
            apart = tuple(strides) == kernel.shape[:3] and not any(map(any, padding))
            if apart and options["feature_group_count"] == 1:
                return _multiply_patches(x, kernel, options["precision"])
            return _convolve_slices(x, kernel, strides, padding, **options)
    return lax.conv_general_dilated(x, kernel, strides, padding, **options)


def _multiply(x: jax.Array, kernel: jax.Array, strides: Sequence[int], precision) -> jax.Array:
    """Computes a convolution with 1x1 kernels as a matrix product."""
    x = x[:, *(slice(None, None, stride) for stride in strides)]
    weights = kernel.reshape(kernel.shape[-2:])
    return lax.dot_general(x, weights, (((x.ndim - 1,), (0,)), ((), ())), precision=precision)


def _multiply_patches(x: jax.Array, kernel: jax.Array, precision) -> jax.Array:
    """Computes a convolution over patches that do not overlap as a matrix product."""
    depth, height, width = kernel.shape[:3]
    whole = (side // part * part for side, part in zip(x.shape[1:4], kernel.shape, strict=False))
    x = x[:, *map(slice, whole)]
    patches = rearrange(x, "b (d i) (h j) (w k) c -> b d h w (i j k c)", i=depth, j=height, k=width)
    weights = kernel.reshape(-1, kernel.shape[-1])
    return lax.dot_general(patches, weights, (((4,), (0,)), ((), ())), precision=precision)


def _convolve_slices(
    x: jax.Array,
    kernel: jax.Array,
    strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    **options,
) -> jax.Array:
    """Computes a convolution over three axes by convolutions over the last two.

    y[d] is the sum over k of conv2d(x[stride * d + k], kernel[k]). If x has few channels, there is
    one convolution, with the slices of all k stacked as channels.

    Args:
      x: `[B, D, H, W, C]`.
      kernel: `[K, H', W', C / groups, F]`.
      strides, padding, **options: see `convolve`; no dilation.
    """
    options |= {key: (1, 1) for key in _DILATIONS}
    options["dimension_numbers"] = lax.ConvDimensionNumbers(
        (0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2)
    )
    batch, stride = x.shape[0], strides[0]
    x = jnp.pad(x, [(0, 0), padding[0], *[(0, 0)] * 3])
    depth = (x.shape[1] - len(kernel)) // stride + 1
    last = stride * (depth - 1) + 1
    slices = [x[:, first : first + last : stride] for first in range(len(kernel))]
    if options["feature_group_count"] == 1 and x.shape[-1] <= _FEW_CHANNELS:
        slices = [jnp.concatenate(slices, axis=-1)]
        kernel = jnp.concatenate(list(kernel), axis=-2)[None]
    parts = [
        convolve(
            x.reshape(batch * depth, *x.shape[2:]), kernel, strides[1:], padding[1:], **options
        )
        for x, kernel in zip(slices, kernel, strict=True)
    ]
    y = functools.reduce(jnp.add, parts)
    return y.reshape(batch, depth, *y.shape[1:])
