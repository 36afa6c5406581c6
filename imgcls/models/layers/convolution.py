"""Convolutions in the form that the platform computes fastest; the values are the same.

XLA's CPU backend runs a convolution of 1x1 kernels through its general path, which is two to four
times slower than its matrix product, and more in the gradients. cuDNN and the TPU know better, so
other platforms keep the convolution.
"""

import jax
from jax import lax


def convolve(
    x: jax.Array,
    kernel: jax.Array,
    strides: tuple[int, ...],
    padding: list[tuple[int, int]],
    **options,
) -> jax.Array:
    """`lax.conv_general_dilated` for `nn.Conv(..., conv_general_dilated=convolve)`.

    Args:
      x: `[B, ..., C]`.
      kernel: `[..., C / groups, D]`.
      strides, padding: of every axis between.
      **options: the others of `lax.conv_general_dilated`.

    Returns:
      `[B, ..., D]`.
    """
    pointwise = all(side == 1 for side in kernel.shape[:-2])
    whole = options["feature_group_count"] == 1 and not any(map(any, padding))
    if jax.default_backend() == "cpu" and pointwise and whole:
        x = x[:, *(slice(None, None, stride) for stride in strides)]
        weights = kernel.reshape(kernel.shape[-2:])
        return lax.dot_general(
            x, weights, (((x.ndim - 1,), (0,)), ((), ())), precision=options["precision"]
        )
    return lax.conv_general_dilated(x, kernel, strides, padding, **options)
